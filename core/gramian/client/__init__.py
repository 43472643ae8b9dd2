"""A client for Gramian's REST API, on the standard library's HTTP.

    client = Client("http://localhost:8080", "c1", secret_key)
    client.create_project("iris")
    client.learn("iris", ["petal_length", "petal_width"], "CC", rows)
    client.build("iris", "width", target="petal_width")
    client.predict("iris", "width", ["petal_length"], [[1.4]])

Its errors are drawn as a tree in `gramian.client.errors`.
"""

from gramian.client.client import Client, Job
from gramian.client.errors import (
    AuthenticationFailed,
    BadReply,
    BadRequest,
    ClientError,
    ConflictError,
    NotFoundError,
    RequestFailed,
    ServerError,
    StillRunning,
    Unreachable,
)
from gramian.client.rows import ArrayLike, Cell, Rows, dataframe
from gramian.client.wire import MAX_REPLY_BYTES, Reply

__all__ = [
    "MAX_REPLY_BYTES",
    "ArrayLike",
    "AuthenticationFailed",
    "BadReply",
    "BadRequest",
    "Cell",
    "Client",
    "ClientError",
    "ConflictError",
    "Job",
    "NotFoundError",
    "Reply",
    "RequestFailed",
    "Rows",
    "ServerError",
    "StillRunning",
    "Unreachable",
    "dataframe",
]
