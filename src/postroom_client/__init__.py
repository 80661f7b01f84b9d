"""A client for `find-processing-messages`, of Postroom or of the vendor it is compatible with.

    from postroom_client import Client

    with Client.from_admin_json("demo-data/admin.json") as client:
        for message in client.find_processing_messages(search=("subject", "invoice"), route="inbound"):
            print(message.created, message.to, message.subject, message.info)

Postroom is not affiliated with that vendor. Details: `docs/client.md`.
"""

from postroom_client.client import AsyncClient, AsyncListing, Client, Listing
from postroom_client.credentials import Credentials
from postroom_client.errors import (
    ApiError,
    AuthenticationError,
    BindingExpired,
    ConnectionFailed,
    Failure,
    InvalidApplication,
    InvalidRequest,
    InvalidToken,
    PermissionDenied,
    PostroomClientError,
    RateLimited,
    ServerFailed,
    UnexpectedAnswer,
)
from postroom_client.exchange import Retries
from postroom_client.message import Address, Page, ProcessingMessage
from postroom_client.signing import date_header, signature, signed_headers

__all__ = [
    "Address",
    "ApiError",
    "AsyncClient",
    "AsyncListing",
    "AuthenticationError",
    "BindingExpired",
    "Client",
    "ConnectionFailed",
    "Credentials",
    "Failure",
    "InvalidApplication",
    "InvalidRequest",
    "InvalidToken",
    "Listing",
    "Page",
    "PermissionDenied",
    "PostroomClientError",
    "ProcessingMessage",
    "RateLimited",
    "Retries",
    "ServerFailed",
    "UnexpectedAnswer",
    "date_header",
    "signature",
    "signed_headers",
]
