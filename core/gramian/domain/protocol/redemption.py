"""Turning an invitation into membership: one request, one reply, both under keys of that invitation alone."""

from __future__ import annotations

import hashlib
from typing import Annotated, TypeAlias, TypeVar

import msgspec

from gramian.domain import crypto, typed
from gramian.domain.canonical import canonical_json, join
from gramian.domain.protocol.fields import Count, HexKey
from gramian.domain.protocol.keys import PeerKeys
from gramian.errors import BadSeal, Refused

VERSION = 1
LABEL = "redeem"
MAX_REQUEST_BYTES = 8 * 1024
MAX_REPLY_BYTES = 1024 * 1024
T = TypeVar("T", bound=msgspec.Struct)
Base64: TypeAlias = Annotated[str, msgspec.Meta(max_length=4 * MAX_REPLY_BYTES // 3)]


class Request(msgspec.Struct, frozen=True):
    """What goes over the wire; `sealed` is base64 of AEAD(K_req, Application)."""

    v: int
    tid: HexKey
    sealed: Base64


class Application(msgspec.Struct, frozen=True):
    """The joiner's keys and its signature over them and the invitation's id (base64)."""

    ed: HexKey
    x: HexKey
    signature: Base64


class Welcome(msgspec.Struct, frozen=True):
    """The admin's answer. `roster`: the signed message (base64). `checkpoint`: the epochs below which a newcomer
    must accept no head. `box`: the Grant boxed to the joiner (base64)."""

    roster: Base64
    checkpoint: dict[str, Count]
    box: Base64


class Grant(msgspec.Struct, frozen=True):
    """What only this member may know. `transport`: its own credentials, if it has any. (Generation keys are boxed to it
    in the roster.)"""

    transport: dict[str, str] = {}


class Keys(msgspec.Struct, frozen=True):
    """K_req and K_rep. Only the issuer and the invited know them."""

    tid: str
    admin_cid: str
    admin_pid: str
    request: bytes
    reply: bytes

    @classmethod
    def derive(cls, secret: bytes, tid: str, admin_cid: str, admin_pid: str) -> Keys:
        """From the invitation's secret, bound to its token and to the admin's project."""
        return cls.expand(master(secret, tid, admin_cid, admin_pid), tid, admin_cid, admin_pid)

    @classmethod
    def expand(cls, key: bytes, tid: str, admin_cid: str, admin_pid: str) -> Keys:
        """From K, which the admin stores sealed."""
        salt = bytes.fromhex(tid)
        return cls(
            tid,
            admin_cid,
            admin_pid,
            crypto.hkdf(key, salt=salt, info=b"req"),
            crypto.hkdf(key, salt=salt, info=b"rep"),
        )

    def aad(self) -> bytes:
        return join(str(VERSION), self.tid, self.admin_cid, self.admin_pid)


def master(secret: bytes, tid: str, admin_cid: str, admin_pid: str) -> bytes:
    """K = HKDF(I, salt = tid, info = "redeem" || admin cid || admin pid)."""
    return crypto.hkdf(secret, salt=bytes.fromhex(tid), info=join(LABEL, admin_cid, admin_pid))


def apply(keys: Keys, own: PeerKeys) -> bytes:
    """The joiner's request body."""
    signature = crypto.sign(own.signing, LABEL, join(keys.tid, own.ed, own.x))
    application = Application(own.ed.hex(), own.x.hex(), crypto.encode(signature))
    sealed = crypto.seal(keys.request, canonical_json(msgspec.to_builtins(application)), keys.aad())
    return canonical_json(msgspec.to_builtins(Request(VERSION, keys.tid, crypto.encode(sealed))))


def parse_request(body: bytes) -> Request:
    """Raises Refused."""
    if len(body) > MAX_REQUEST_BYTES:
        raise Refused(f"a redemption has at most {MAX_REQUEST_BYTES} bytes")
    try:
        request = typed.decode(body, Request)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Refused("the redemption is malformed") from error
    if request.v != VERSION:
        raise Refused("the redemption has another version")
    return request


def open_application(request: Request, keys: Keys) -> Application:
    """Raises BadSeal unless the holder of the invitation wrote it, Refused unless it owns the keys it names."""
    plain = crypto.unseal(keys.request, crypto.decode(request.sealed), keys.aad())
    application = _decode(plain, Application)
    ed, x = bytes.fromhex(application.ed), bytes.fromhex(application.x)
    crypto.verify(ed, LABEL, join(keys.tid, ed, x), crypto.decode(application.signature))
    return application


def answer(keys: Keys, body: bytes, welcome: Welcome) -> bytes:
    """The admin's reply, good for this very request only."""
    return crypto.seal(keys.reply, canonical_json(msgspec.to_builtins(welcome)), hashlib.sha256(body).digest())


def open_welcome(keys: Keys, body: bytes, reply: bytes) -> Welcome:
    """Raises BadSeal unless the issuer of the invitation answered this request."""
    return _decode(crypto.unseal(keys.reply, reply, hashlib.sha256(body).digest()), Welcome)


def box_grant(grant: Grant, x: bytes, fed_id: str) -> str:
    return crypto.encode(crypto.box(x, canonical_json(msgspec.to_builtins(grant)), label="grant", fed_id=fed_id))


def open_grant(text: str, own: PeerKeys, fed_id: str) -> Grant:
    """Raises BadSeal or Refused."""
    return _decode(crypto.unbox(own.boxing, crypto.decode(text), label="grant", fed_id=fed_id), Grant)


def _decode(data: bytes, kind: type[T]) -> T:
    try:
        return typed.decode(data, kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BadSeal("a sealed message opens but is malformed") from error
