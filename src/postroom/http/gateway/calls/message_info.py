"""The record of one message for `get-message-info` (contract section 7): waiting, ended or refused.

Pure. Promises: all members that known clients read are present; unknown values are left out; the message's content,
which would need another permission, is never shown. Fails: never.
"""

from __future__ import annotations

from typing import Any

from postroom.clock import DAY, Millis
from postroom.http.gateway.wire.dates import stamp
from postroom.http.gateway.wire.held import policy_of
from postroom.model import Ended, Entry, Message, Outcome, Queue
from postroom.settings import Settings
from postroom.store.find.tracking import REFUSED, Known, ended_status, entry_status
from postroom.store.logs.rejections import Rejection


def message_info(known: Known, message: Message | None, ident: str, settings: Settings, now: Millis) -> dict[str, Any]:
    if known.refused is not None:
        return _refused(known.refused, ident)
    row: Entry | Ended | None = known.entry or known.ended
    assert row is not None, "something is known"
    received = _received(row, message)
    found: dict[str, Any] = {
        "recipientInfo": {"messageInfo": _message_info(row), "recipientMetaInfo": received, "txInfo": received},
        "deliveredMessage": _delivered(known.ended),
    }
    if known.entry is not None:
        found["queueInfo"] = _queue_info(known.entry, ident)
    else:
        assert known.ended is not None
        purge = stamp(known.ended.ended + settings.retention.history)
        found["retentionInfo"] = {
            "currentPurgeDate": purge,
            "purgeBasedOn": "original",
            "originalPurgeDate": purge,
            "retentionAdjustmentDays": 0,
            "litigationHoldInfo": [],
            "fbrStamps": [],
            "smartTags": [],
            "fbrExpireCheck": [],
            "audits": [],
        }
        received["messageExpiresIn"] = max(0, (known.ended.ended + settings.retention.history - now) // DAY)
    found["status"] = entry_status(known.entry, now) if known.entry is not None else ended_status(_ended(known))
    found["spamInfo"] = {"spamScore": 0, "detectionLevel": ""}
    found["id"] = ident
    return found


def _ended(known: Known) -> Ended:
    assert known.ended is not None
    return known.ended


def _message_info(row: Entry | Ended) -> dict[str, Any]:
    info: dict[str, Any] = {
        "fromHeader": row.from_address,
        "fromEnvelope": row.env_from,
        "to": [row.recipient],
        "cc": [],
        "subject": row.subject,
        "sent": stamp(row.created),
        "processed": stamp(row.ended if isinstance(row, Ended) else row.created),
        "route": row.route,
        "attachments": row.attachment,
    }
    return info


def _received(row: Entry | Ended, message: Message | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "receiptEvent": "Email Received",
        "remoteIp": row.remote_ip,
        "transmissionSize": row.size,
        "transmissionEnd": stamp(row.created),
        "components": [],
    }
    if message is not None:
        client = message.client
        found["remoteHost"] = client.name or client.helo
        found["remoteServerGreeting"] = f"{'EHLO' if client.esmtp else 'HELO'} {client.helo}"
        found["encryptionInfo"] = client.tls
        found["messageId"] = message.facts.message_id
    return found


def _delivered(ended: Ended | None) -> dict[str, Any]:
    if ended is None or ended.outcome is not Outcome.DELIVERED:
        return {}
    return {
        ended.recipient: {
            "messageInfo": _message_info(ended),
            "policyInfo": [],
            "deliveryMetaInfo": {
                "deliveryEvent": "Email Delivered",
                "emailAddress": ended.recipient,
                "transmissionSize": ended.size,
                "receiptAcknowledgement": ended.reply,
                "transmissionEnd": stamp(ended.ended),
                "deliveryAttempts": ended.attempts,
                "components": [],
            },
        }
    }


def _queue_info(entry: Entry, ident: str) -> dict[str, Any]:
    held = entry.queue is Queue.HELD
    info: dict[str, Any] = {
        "id": ident,
        "info": entry.info,
        "createTime": stamp(entry.created),
        "to": [{"emailAddress": entry.recipient, "displayableName": entry.recipient_name}],
        "fromHeader": {"emailAddress": entry.from_address, "displayableName": entry.from_name},
        "fromEnvelope": {"emailAddress": entry.env_from, "displayableName": ""},
        "subject": entry.subject,
        "route": entry.route,
        "attachments": entry.attachment,
        "reason": policy_of(entry.info) if held else entry.info,
        "size": entry.size,
        "attempts": entry.attempts,
        "manageRecipient": False,
    }
    if held:
        info["heldGroup"] = "administrator"
    else:
        info["nextAttempt"] = stamp(entry.next_attempt)
    return info


def _refused(refused: Rejection, ident: str) -> dict[str, Any]:
    received = {
        "receiptEvent": f"Email Rejected - {refused.reply}",
        "remoteIp": refused.ip,
        "remoteHost": refused.helo,
        "transmissionEnd": stamp(refused.at),
        "components": [],
    }
    info = {
        "fromHeader": "",
        "fromEnvelope": refused.env_from,
        "to": [refused.recipient] if refused.recipient else [],
        "cc": [],
        "subject": "",
        "sent": stamp(refused.at),
        "processed": stamp(refused.at),
    }
    return {
        "recipientInfo": {"messageInfo": info, "recipientMetaInfo": received, "txInfo": received},
        "deliveredMessage": {},
        "status": REFUSED,
        "spamInfo": {"spamScore": 0, "detectionLevel": ""},
        "id": ident,
    }
