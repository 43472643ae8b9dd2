"""Signed requests (contract, section 1): who sent this, and is it exactly what they sent, now and once?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote, unquote, unquote_to_bytes

import msgspec
from flask import current_app, request
from werkzeug.exceptions import MethodNotAllowed

from gramian.domain import signing
from gramian.domain.names import check_id
from gramian.domain.signing import Signable, Target
from gramian.errors import InvalidRequest, Unauthorized
from gramian.http.replay import claim_once
from gramian.http.request import Call, parse_query, read_body, set_current
from gramian.ports import TokenStore
from gramian.settings import Settings

UserLookup: TypeAlias = Callable[[str], str | None]
"""The base64 secret key of a customer id, or None."""
View = TypeVar("View", bound=Callable[..., Any])

ROOT = "/symetry/rest/"

# Unknown users cost the same work as known ones. Nobody gains from knowing this key: its result is thrown away.
_NOBODYS_SECRET = "AAAAAAAAAAAAAAAAAAAAAA=="  # noqa: S105
_EMPTY_MD5 = signing.content_md5(b"")
_ESCAPE = re.compile("%[0-9A-Fa-f]{2}")


def unsigned(view: View) -> View:
    """Mark a view that authenticates by other means (createPolicies) or needs none (health)."""
    view.gramian_unsigned = True  # type: ignore[attr-defined]
    return view


def read_only(view: View) -> View:
    """Mark a view that changes nothing, so that one signature may be used again within its window."""
    view.gramian_read_only = True  # type: ignore[attr-defined]
    return view


def authenticator(
    users: UserLookup, tokens: TokenStore, clock: Callable[[], float], settings: Settings
) -> Callable[[], None]:
    """A `before_request` function for an app or blueprint whose signed routes have a `cid`. `clock`: unix seconds.

    It raises what the contract's table of causes says, in this order: header presence, date format, window, user,
    MD5, signature; then what a repeated signature deserves.
    """

    def authenticate() -> None:
        view = current_app.view_functions.get(request.endpoint or "")
        if view is None:
            return  # routing has failed, and Flask says so next
        if request.method in ("HEAD", "OPTIONS"):
            raise MethodNotAllowed(request.url_rule.methods if request.url_rule else None)
        if hasattr(view, "gramian_unsigned"):
            return
        credentials = _Credentials.of_request()
        signing.check_window(signing.parse_sym_date(credentials.sym_date), clock())
        cid = (request.view_args or {})["cid"]
        secret = _secret_of(cid, users)
        path, query = raw_target(request.environ)
        body = read_body(settings.body_limit_bytes)
        signable = Signable.of(request.method, credentials.sym_date, cid, body)
        target = _verified(credentials, signable, secret, path, query)
        if not hasattr(view, "gramian_read_only"):
            claim_once(tokens, signing.replay_key(secret or "", signable, target), clock())
        set_current(
            Call(
                cid=cid,
                method=request.method,
                path=_from_root(path),
                parameters=parse_query(target.query, decoded=target.decoded),
                body=body,
                key=signing.decode_secret(secret or ""),
                require_v2=settings.require_v2,
            )
        )

    return authenticate


def raw_target(environ: dict[str, Any]) -> tuple[str, str]:
    """Path and query as the client sent them, percent escapes and all.

    Raises InvalidRequest if the path that Flask routed is another one than the path that is checked, or if it holds an
    encoded slash: Flask routes by it, others take it for part of an id.
    """
    sent = environ.get("REQUEST_URI") or environ.get("RAW_URI")
    routed: bytes = environ["PATH_INFO"].encode("latin-1")
    if sent is None:
        path = quote(environ.get("SCRIPT_NAME", "").encode("latin-1") + routed, safe="/:@!$&'()*+,;=~")
    else:
        path = _as_text(re.sub("^[A-Za-z]+://[^/?#]*", "", sent).partition("?")[0])
    if unquote_to_bytes(_from_root(path)) != routed or "%2f" in path.lower():
        raise InvalidRequest("the path of the request can be read in two ways")
    return path, _as_text(environ.get("QUERY_STRING", ""))


class _Credentials(msgspec.Struct, frozen=True):
    signature: str
    sym_date: str
    content_md5: str

    @classmethod
    def of_request(cls) -> _Credentials:
        headers = request.headers
        if not (signature := headers.get("Authorization", "").strip()):
            raise InvalidRequest("Authentication header is null")
        if not (sym_date := headers.get("Sym-date", "").strip()):
            raise InvalidRequest("sym-date header is null")
        return cls(signature, sym_date, headers.get("Content-MD5", "").strip())


def _secret_of(cid: str, users: UserLookup) -> str | None:
    sent = request.headers.get("Customer-ID")
    if sent is not None and sent.strip() != cid:
        raise InvalidRequest("the Customer-ID header and the path name different customers")
    try:
        return users(check_id("cid", cid))
    except InvalidRequest:
        return None


def _verified(credentials: _Credentials, signable: Signable, secret: str | None, path: str, query: str) -> Target:
    target = signing.verify(secret or _NOBODYS_SECRET, signable, _targets(path, query), credentials.signature)
    if secret is None:
        raise Unauthorized("Invalid User", signing.public_string_to_sign(signable, Target(path, query)))
    if credentials.content_md5 not in ("", signable.content_md5 or _EMPTY_MD5):
        raise InvalidRequest("Md5 do not match")
    if target is None:
        raise Unauthorized("Invalid Signature", signing.public_string_to_sign(signable, Target(path, query)))
    return target


def _targets(path: str, query: str) -> Iterator[Target]:
    """All readings of the target that a client may have signed, the contract's own first."""
    yield Target(path, query)
    short, host = _from_root(path), request.environ.get("HTTP_HOST", "")
    resources = [path, short] + [f"{scheme}://{host}{p}" for scheme in ("http", "https") for p in (path, short)]
    for text, decoded in _query_readings(query):
        for resource in dict.fromkeys(resources):
            yield Target(resource, text, decoded)


def _query_readings(query: str) -> list[tuple[str, bool]]:
    """The raw query, then the percent-decoded one, which some clients sign.

    A decoded text that still holds escapes is left out: signed as it stands, it would mean something else.
    """
    readings = [(query, False)]
    decoded = unquote(query, errors="replace")
    if decoded != query and not _ESCAPE.search(decoded):
        readings.append((decoded, True))
    return readings


def _from_root(path: str) -> str:
    """The path without a gateway's stage or other prefix."""
    return path[max(path.find(ROOT), 0) :]


def _as_text(latin1: str) -> str:
    """WSGI hands bytes over as Latin-1."""
    try:
        return latin1.encode("latin-1").decode()
    except UnicodeError:
        raise InvalidRequest("the request target is not UTF-8") from None
