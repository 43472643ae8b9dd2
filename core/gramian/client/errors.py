"""Every error that the client raises.

ClientError
├── Unreachable             no answer: network, TLS, timeout; a request that changes things may have been done
├── BadReply                an answer that this client cannot read
├── StillRunning            a job did not end in time
└── RequestFailed           the server refused; has http_status, code and text
    ├── BadRequest          400, 405, 413
    ├── AuthenticationFailed  401
    ├── NotFoundError       404
    ├── ConflictError       409
    └── ServerError         5xx
"""

from __future__ import annotations

from gramian.errors import GramianError


class ClientError(GramianError):
    """Root of what this client raises."""


class Unreachable(ClientError):
    """No answer came; whether the server acted on the request is unknown."""


class BadReply(ClientError):
    """The answer is not an envelope, is too large, or a sealed part of it does not open."""


class StillRunning(ClientError):
    """A job did not end within the time to wait."""


class RequestFailed(ClientError):
    """The server refused. `text` is its statusString, `code` its statusCode."""

    def __init__(self, http_status: int, code: str, text: str) -> None:
        super().__init__(text)
        self.http_status = http_status
        self.code = code
        self.text = text


class BadRequest(RequestFailed):
    """The request cannot work as it stands."""


class AuthenticationFailed(RequestFailed):
    """Unknown customer, or the secret key is wrong."""


class NotFoundError(RequestFailed):
    """No such endpoint."""


class ConflictError(RequestFailed):
    """The id is taken, or the same operation still runs."""


class ServerError(RequestFailed):
    """The server failed, or something it needs is down."""


_BY_STATUS: dict[int, type[RequestFailed]] = {401: AuthenticationFailed, 404: NotFoundError, 409: ConflictError}


def refusal(http_status: int, code: str, text: str) -> RequestFailed:
    """The error that stands for an answer with this HTTP status."""
    default = ServerError if http_status >= 500 else BadRequest
    return _BY_STATUS.get(http_status, default)(http_status, code, text)
