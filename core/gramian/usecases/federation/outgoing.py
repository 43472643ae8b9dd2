"""The one call that a node makes on a user's word: redemption at an address from an invitation.

So it must not serve as a proxy: no redirects, no link-local or metadata addresses (checked on the address that is then
connected to), bounded in time and size, and nothing of the answer is shown but texts that are known beforehand.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from urllib.parse import SplitResult, urlsplit

import msgspec

from gramian.domain import crypto, typed
from gramian.domain.addresses import is_forbidden
from gramian.errors import InvalidRequest, Refused, Unavailable
from gramian.turns import TURNS

CONNECT_TIMEOUT_S = 5.0
TOTAL_TIMEOUT_S = 30.0
MAX_AT_ONCE = 8
_PORTS = {"http": 80, "https": 443}
_AT_ONCE = threading.BoundedSemaphore(MAX_AT_ONCE)


class _Envelope(msgspec.Struct):
    values: dict[str, msgspec.Raw]
    statusString: str = ""  # noqa: N815


def post(url: str, body: bytes, *, max_reply_bytes: int, shown: Sequence[str]) -> bytes:
    """POST JSON and return the body of a 200. Raises InvalidRequest in words fit for the user."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError) as error:
        raise InvalidRequest("fed_rest_url must be an http or https address") from error
    place = f"{parts.hostname}:{port}"
    try:
        with _slot(), TURNS.away():
            status, reply = _exchange(parts, port, body, max_reply_bytes)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise InvalidRequest(
            f"the admin at {place} cannot be reached: {type(error).__name__}; is it running?"
        ) from error
    if status == 200:
        return reply
    raise InvalidRequest(f"the admin at {place} refused (HTTP {status}): {_known(reply, shown)}")


def entity(reply: bytes, key: str) -> bytes:
    """A base64 entity of an envelope. Raises Refused."""
    try:
        raw = typed.decode(reply, _Envelope).values[key]
        return crypto.decode(typed.decode(raw, str))
    except (ValueError, RecursionError, KeyError) as error:  # also of msgspec
        raise Refused("it is not an answer to a redemption") from error


@contextlib.contextmanager
def _slot() -> Iterator[None]:
    """One of few: such a call holds a thread of the server, and may be answered by the same server."""
    if not _AT_ONCE.acquire(blocking=False):
        raise Unavailable("too many joins at once; try again in a moment")
    try:
        yield
    finally:
        _AT_ONCE.release()


def _known(reply: bytes, shown: Sequence[str]) -> str:
    try:
        text = typed.decode(reply, _Envelope).statusString
    except (ValueError, RecursionError):
        text = ""
    return text if text in shown else "the address may be wrong, or the invitation no longer good"


def _exchange(parts: SplitResult, port: int, body: bytes, max_reply_bytes: int) -> tuple[int, bytes]:
    host = parts.hostname or ""
    connection = http.client.HTTPConnection(host, port)
    with contextlib.closing(connection), contextlib.closing(_line(parts.scheme, host, port)) as line, _deadline(line):
        if isinstance(line, ssl.SSLSocket):
            line.do_handshake()
        connection.sock = line
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body, {"Content-Type": "application/json", "Accept": "application/json"})
        response = connection.getresponse()
        reply = response.read(max_reply_bytes + 1)
    if len(reply) > max_reply_bytes:
        raise InvalidRequest("the admin's answer is too long")
    return response.status, reply


def _line(scheme: str, host: str, port: int) -> socket.socket:
    """A connected line; the handshake of TLS is still to come, within the deadline."""
    plain = _connected(host, port)
    if scheme == "http":
        return plain
    return ssl.create_default_context().wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)


@contextlib.contextmanager
def _deadline(sock: socket.socket) -> Iterator[None]:
    """Cut the line when the time is over, however slowly bytes trickle in: timeouts of sockets are per read."""

    def cut() -> None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(TOTAL_TIMEOUT_S, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _connected(host: str, port: int) -> socket.socket:
    """Connect to an address that was checked itself: the name may resolve to something else a moment later."""
    found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    allowed = [address for address in found if not is_forbidden(address)]
    if not allowed:
        raise InvalidRequest("fed_rest_url points to a link-local or metadata address, which is never called")
    plain = _first_open(allowed, port)
    plain.settimeout(TOTAL_TIMEOUT_S)
    return plain


def _first_open(addresses: Sequence[str], port: int) -> socket.socket:
    for address in addresses[:-1]:
        with contextlib.suppress(OSError):
            return socket.create_connection((address, port), CONNECT_TIMEOUT_S)
    return socket.create_connection((addresses[-1], port), CONNECT_TIMEOUT_S)
