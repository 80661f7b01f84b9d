"""People, applications, roles and their credentials."""

from postroom.store.access import tokens
from postroom.store.access.tokens import Client
from postroom.store.verbs import reads, writes

find_client = reads(tokens.find_client)
find_token = reads(tokens.find)
issue_token = writes(tokens.issue)

__all__ = ["Client", "find_client", "find_token", "issue_token"]
