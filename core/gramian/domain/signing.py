"""Request signatures (contract, section 1): HMAC-SHA256 over method, MD5, secret, date, customer, body and target.

The string to sign has one item a line. Its body line can be 64 MB long, so it only ever exists as pieces.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import msgspec

from gramian.domain.canonical import join
from gramian.errors import InvalidRequest

MAX_AGE_S = 5 * 60
MAX_AHEAD_S = 60
ECHO_CHARS = 4096
"""Most characters of a string to sign that a 401 answer shows."""
SECRET_BYTES = (16, 24, 32)
"""Secret keys are AES keys too (sealing.py)."""

_SYM_DATE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:;(\d{1,19}))?", re.ASCII)


class Signable(msgspec.Struct, frozen=True):
    """What a signature covers besides the target. `body` is exactly what is sent; empty means there is none."""

    method: str
    sym_date: str
    cid: str
    body: bytes
    content_md5: str

    @classmethod
    def of(cls, method: str, sym_date: str, cid: str, body: bytes = b"") -> Signable:
        return cls(method, sym_date, cid, body, content_md5(body) if body else "")


class Target(msgspec.Struct, frozen=True):
    """One reading of where a request goes: `query` without `?`, `decoded` if percent escapes are already undone."""

    resource: str
    query: str = ""
    decoded: bool = False


def content_md5(body: bytes) -> str:
    """The Content-MD5 header of `body`: base64 of its MD5, which guards against accidents only."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def decode_secret(secret: str) -> bytes:
    """The key behind a secret's base64 text. Raises InvalidRequest, without the text, for anything else."""
    try:
        key = base64.b64decode(secret, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest("the secret key is not base64") from None
    if len(key) not in SECRET_BYTES:
        raise InvalidRequest("the secret key must be 16, 24 or 32 bytes in base64")
    return key


def sign(secret: str, request: Signable, target: Target) -> str:
    """The Authorization header: base64 of the full 32 bytes."""
    return _finish(_start(secret, request), target).decode()


def verify(secret: str, request: Signable, targets: Iterable[Target], signature: str) -> Target | None:
    """The first of `targets` that `signature` covers, or None. The body is hashed once for all of them."""
    start, given = _start(secret, request), signature.encode(errors="replace")
    for target in targets:
        if hmac.compare_digest(_finish(start.copy(), target), given):
            return target
    return None


def replay_key(secret: str, request: Signable, target: Target) -> str:
    """SHA-256 (hex) of cid || string to sign: equal whenever the same signature is used again."""
    pieces = list(_pieces(secret, request, target))
    digest = hashlib.sha256(join(request.cid))
    digest.update(sum(map(len, pieces)).to_bytes(4, "big"))
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def public_string_to_sign(request: Signable, target: Target) -> str:
    """The string to sign as a 401 answer shows it: no secret, `\\n` for line breaks, at most ECHO_CHARS long."""
    shown = Signable(request.method, request.sym_date, request.cid, request.body[:ECHO_CHARS], request.content_md5)
    text = b"".join(_pieces("SECRETKEY", shown, target)).decode(errors="replace")
    return text.replace("\n", "\\n")[:ECHO_CHARS]


def parse_sym_date(text: str) -> int:
    """Unix seconds of `yyyy-MM-dd HH:mm:ss` in UTC, with or without `;nanoseconds`, which only make dates unique."""
    match = _SYM_DATE.fullmatch(text)
    try:
        if match is not None:
            return int(datetime.fromisoformat(f"{match[1]}Z").timestamp())
    except ValueError:
        pass
    raise InvalidRequest("Invalid Date Format")


def format_sym_date(time_ns: int) -> str:
    """The Sym-date header for a time in nanoseconds since 1970."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S};{nanoseconds}"


def check_window(date_s: int, now_s: float) -> None:
    """Raise InvalidRequest if `date_s` is more than 5 minutes older or more than 1 minute ahead of `now_s`."""
    if now_s - date_s > MAX_AGE_S or date_s - now_s > MAX_AHEAD_S:
        raise InvalidRequest("Please update your server time, it is likely out of sync with UTC")


def _pieces(secret: str, request: Signable, target: Target) -> Iterator[bytes]:
    """The string to sign, in order; only the body is handed on without a copy."""
    yield from _opening(secret, request)
    yield _closing(target)


def _opening(secret: str, request: Signable) -> Iterator[bytes]:
    yield "".join(
        f"{line}\n" for line in (request.method, request.content_md5, secret, request.sym_date, request.cid)
    ).encode()
    if request.body:
        yield request.body
        yield b"\n"


def _closing(target: Target) -> bytes:
    return (f"{target.resource}\n{target.query}\n" if target.query else f"{target.resource}\n").encode()


def _start(secret: str, request: Signable) -> hmac.HMAC:
    mac = hmac.new(decode_secret(secret), digestmod=hashlib.sha256)
    for piece in _opening(secret, request):
        mac.update(piece)
    return mac


def _finish(mac: hmac.HMAC, target: Target) -> bytes:
    mac.update(_closing(target))
    return base64.b64encode(mac.digest())
