"""What a handler may know of its request: nothing here is read before the signature was verified.

`gramian.http.auth` puts a Call into the request context; handlers take it by `current()`.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import unquote

from flask import g, request
from werkzeug.exceptions import RequestEntityTooLarge

from gramian.domain import jsonio, sealing
from gramian.errors import InvalidRequest, TooLarge

Scalar: TypeAlias = str | bool | int | float
FlatMap: TypeAlias = dict[str, Scalar]

MAX_QUERY_CHARS = 8192
MAX_PARAMETERS = 64
MAX_MAP_KEYS = 1000


@dataclass(frozen=True, slots=True)
class Call:
    """A verified request. `path` is from `/symetry` on, as signed; `parameters` have lower-case names."""

    cid: str
    method: str
    path: str
    parameters: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    key: bytes = field(repr=False)
    require_v2: bool = False

    def query(self, *names: str) -> str | None:
        """A query parameter under any of its names, in any case; None if absent."""
        found = {self.parameters[name.lower()] for name in names if name.lower() in self.parameters}
        if len(found) > 1:
            raise InvalidRequest(f"the query gives {names[0]} twice, with different values")
        return found.pop() if found else None

    def need(self, *names: str) -> str:
        """As `query`. Raises InvalidRequest if the parameter is absent or empty."""
        value = self.query(*names)
        if not value:
            raise InvalidRequest(f"the query parameter {names[0]} is missing")
        return value

    def flag(self, *names: str, default: bool) -> bool:
        """As `query`, for `true` or `false`."""
        value = self.query(*names)
        if value is None:
            return default
        if value.lower() not in ("true", "false"):
            raise InvalidRequest(f"the query parameter {names[0]} must be true or false")
        return value.lower() == "true"

    @property
    def scheme(self) -> sealing.Scheme:
        """The seal for answers: the body's; without a body v1, unless the query has `seal=v2` or v1 is refused."""
        if self.require_v2 or self.query("seal") == sealing.Scheme.V2:
            return sealing.Scheme.V2
        return sealing.body_scheme(self.body)

    def plain_map(self) -> FlatMap:
        """The unsealed body as a flat map; empty without a body."""
        return flat_map(self.body) if self.body else {}

    def opened_map(self) -> FlatMap:
        """The sealed body as a flat map. Raises BadSeal, InvalidRequest."""
        if not self.body:
            raise InvalidRequest("this endpoint needs a body: a JSON map, sealed with your secret key")
        plaintext, _ = sealing.open_body(
            self.body, self.key, method=self.method, cid=self.cid, path=self.path, require_v2=self.require_v2
        )
        return flat_map(plaintext)

    def seal_reply(self, value: Mapping[str, Any]) -> str:
        """An entity of the reply, sealed with the user's key in the scheme of the request."""
        return sealing.seal_body(
            jsonio.dumps(value),
            self.key,
            self.scheme,
            secrets.token_bytes,
            method=self.method,
            cid=self.cid,
            path=self.path,
        )

    def seal_invitation(self, value: Mapping[str, Any], password: str) -> str:
        """An invitation, sealed with its password in the scheme of the request."""
        return sealing.seal_invitation(jsonio.dumps(value), password, self.scheme, secrets.token_bytes)


def current() -> Call:
    """The verified request that is being handled."""
    call: Call = g.gramian_call
    return call


def set_current(call: Call) -> None:
    g.gramian_call = call


def read_body(max_bytes: int) -> bytes:
    """Read the body of the current request. Raises TooLarge: by its announced length, or while reading.

    A length that is announced too small cuts the body, so that its signature fails; chunked bodies are counted.
    """
    environ = request.environ
    if environ.get("CONTENT_LENGTH") in (None, "", "0") and "HTTP_TRANSFER_ENCODING" not in environ:
        return b""  # what most requests have, and werkzeug takes its time to find
    # One more than allowed, because werkzeug silently ends a chunked body at the limit.
    request.max_content_length = max_bytes + 1
    try:
        body = request.get_data(parse_form_data=False)
    except RequestEntityTooLarge:
        raise TooLarge(too_large(max_bytes)) from None
    if len(body) > max_bytes:
        raise TooLarge(too_large(max_bytes))
    return body


def too_large(max_bytes: int) -> str:
    """What to do about a body with more bytes than that."""
    return (
        f"the body has more than {max_bytes} bytes: send fewer rows at a time, or all of them as a file: "
        "POST projects/{pid}/uploads makes place for one"
    )


def parse_query(text: str, *, decoded: bool) -> dict[str, str]:
    """Parameters by lower-case name, from the text that was signed.

    `decoded` texts are taken as they stand: undoing escapes twice would let one signature mean two things. For the
    same reason `+` is always itself; a space is `%20`. Raises InvalidRequest for repeated or too many parameters.
    """
    if len(text) > MAX_QUERY_CHARS or text.count("&") >= MAX_PARAMETERS:
        raise InvalidRequest(f"the query has more than {MAX_QUERY_CHARS} characters or {MAX_PARAMETERS} parameters")
    parameters: dict[str, str] = {}
    for part in filter(None, text.split("&")):
        name, _, value = part.partition("=")
        if not decoded:
            name, value = _unquote(name), _unquote(value)
        if name.lower() in parameters:
            raise InvalidRequest(f"the query parameter {name[:40]!r} appears twice")
        parameters[name.lower()] = value
    return parameters


def flat_map(data: bytes) -> FlatMap:
    """A JSON map of scalars, bare or as `{"values":[{...}]}`; nulls count as absent. Raises InvalidRequest."""
    value = jsonio.loads(data, unique_keys=True)
    if isinstance(value, dict) and list(value) == ["values"] and isinstance(value["values"], list):
        if len(value["values"]) != 1:
            raise InvalidRequest("values must hold exactly one map")
        value = value["values"][0]
    if not isinstance(value, dict):
        raise InvalidRequest("the body must be a JSON map")
    if len(value) > MAX_MAP_KEYS:
        raise InvalidRequest(f"the map has {len(value)} keys; at most {MAX_MAP_KEYS} are allowed")
    for key, item in value.items():
        if isinstance(item, dict | list):
            raise InvalidRequest(f"the value of {key[:40]!r} must be text, a number, true or false")
    return {key: item for key, item in value.items() if item is not None}


def _unquote(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise InvalidRequest("the query is not UTF-8") from None
