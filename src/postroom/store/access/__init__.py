"""The room of those who may ask: people, applications, roles, and their keys, tokens and sessions.

made = await store.write(access.create_app(sealer, name="soar", role="monitor"))
user = await store.read(access.find_user("alice@corp.example"))
"""

from postroom.store.access import bindings, identity, people, roles, signatures, tokens
from postroom.store.access.bindings import Binding
from postroom.store.access.bindings import Issued as IssuedKeys
from postroom.store.access.identity import (
    ADMINISTRATOR,
    MAX_EMAIL,
    MONITOR,
    AppKeys,
    AppListed,
    Credentials,
    Role,
    Session,
    User,
    fold_email,
    hash_password,
    verify_password,
)
from postroom.store.access.people import Listed as UserListed
from postroom.store.access.people import PersonChanged
from postroom.store.access.signatures import MAX_ANSWER
from postroom.store.access.signatures import Used as UsedSignature
from postroom.store.access.signatures import packed as pack_answer
from postroom.store.access.signatures import unpacked as unpack_answer
from postroom.store.access.tokens import Client, Token, hash_token
from postroom.store.verbs import reads, writes

# roles
create_role = writes(identity.create_role)
list_roles = reads(identity.list_roles)
permit_role = writes(roles.permit)
forbid_role = writes(roles.forbid)
limit_plans = writes(roles.limit_plans)
list_plan_limits = reads(roles.plan_limits)

# applications
create_app = writes(identity.create_app)
find_app = reads(identity.find_app)
list_apps = reads(identity.list_apps)
list_unusable_apps = reads(identity.unusable_apps)
revoke_app = writes(identity.revoke_app)
create_first_administrator = writes(identity.bootstrap)

# people
create_user = writes(identity.create_user)
find_user = reads(identity.find_user)
list_users = reads(people.list_users)
count_users = reads(people.count_users)
set_password = writes(people.set_password)
disable_user = writes(people.disable)
enable_user = writes(people.enable)
delete_user = writes(people.delete)

# what a login gives
begin_session = writes(people.begin_session)
find_session = reads(identity.find_session)
drop_session = writes(identity.drop_session)
issue_keys = writes(people.issue_keys)
find_binding = reads(bindings.find)

# OAuth
find_client = reads(tokens.find_client)
issue_token = writes(tokens.issue)
find_token = reads(tokens.find)

# signatures of changing calls
use_signature = writes(signatures.use)
keep_answer = writes(signatures.answered)

__all__ = [
    "ADMINISTRATOR",
    "MAX_ANSWER",
    "MAX_EMAIL",
    "MONITOR",
    "AppKeys",
    "AppListed",
    "Binding",
    "Client",
    "Credentials",
    "IssuedKeys",
    "PersonChanged",
    "Role",
    "Session",
    "Token",
    "UsedSignature",
    "User",
    "UserListed",
    "begin_session",
    "count_users",
    "create_app",
    "create_first_administrator",
    "create_role",
    "create_user",
    "delete_user",
    "disable_user",
    "drop_session",
    "enable_user",
    "find_app",
    "find_binding",
    "find_client",
    "find_session",
    "find_token",
    "find_user",
    "fold_email",
    "forbid_role",
    "hash_password",
    "hash_token",
    "issue_keys",
    "issue_token",
    "keep_answer",
    "limit_plans",
    "list_apps",
    "list_plan_limits",
    "list_roles",
    "list_unusable_apps",
    "list_users",
    "pack_answer",
    "permit_role",
    "revoke_app",
    "set_password",
    "unpack_answer",
    "use_signature",
    "verify_password",
]
