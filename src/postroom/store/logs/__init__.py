"""The room of the logs: audit (who did what), rejections (refused by SMTP), releases (what people did with held mail).

await store.write(logs.add_audit_line(at=now, actor="cli:root", kind="store.backup", what=path))
first = await store.read(logs.read_first_page(logs.REJECTIONS, query, size=100, instead="a shorter time"))
"""

from postroom.store.logs import audit, lines, rejections
from postroom.store.logs.audit import DONE, FAILED, REFUSED
from postroom.store.logs.audit import KINDS as AUDIT_KINDS
from postroom.store.logs.audit import Line as AuditLine
from postroom.store.logs.audit import Noted as AuditNote
from postroom.store.logs.audit import Page as AuditPage
from postroom.store.logs.lines import REJECTIONS, RELEASES, FirstPage, Log, LogPage, LogQuery
from postroom.store.logs.lines import Line as LogLine
from postroom.store.logs.rejections import KINDS as REJECTION_KINDS
from postroom.store.logs.rejections import NewRejection, Rejection
from postroom.store.logs.released import FIELDS as RELEASE_FIELDS
from postroom.store.logs.released import Released
from postroom.store.verbs import reads, writes

# audit
add_audit_line = writes(audit.add)
add_audit_notes = writes(audit.note)
list_audit = reads(audit.read)
read_audit_page = reads(audit.page)

# rejections and releases
add_rejections = writes(rejections.add)
read_first_page = reads(lines.first_page)
read_page = reads(lines.page)

__all__ = [
    "AUDIT_KINDS",
    "DONE",
    "FAILED",
    "REFUSED",
    "REJECTIONS",
    "REJECTION_KINDS",
    "RELEASES",
    "RELEASE_FIELDS",
    "AuditLine",
    "AuditNote",
    "AuditPage",
    "FirstPage",
    "Log",
    "LogLine",
    "LogPage",
    "LogQuery",
    "NewRejection",
    "Rejection",
    "Released",
    "add_audit_line",
    "add_audit_notes",
    "add_rejections",
    "list_audit",
    "read_audit_page",
    "read_first_page",
    "read_page",
]
