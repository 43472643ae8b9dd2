"""The invitation map: what an admin hands to one future peer out of band, sealed with a password."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from secrets import token_bytes, token_hex
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

import msgspec

from gramian.domain.crypto import KEY_BYTES
from gramian.domain.names import check_id
from gramian.errors import InvalidRequest

V = TypeVar("V")
TOKEN_PREFIX = "FEDTOKEN"  # noqa: S105
DEFAULT_LIFETIME_H = 2
MAX_LIFETIME_H = 168
_OWN_KEYS = ("fed_name", "sync_sched", "fed_rest_url", "fed_req_token", "fed_secret_key", "fed_id")
_REDEMPTION_PATH = re.compile(r".*/symetry/rest/([^/]+)/fedml/([^/]+)/createPolicies/?")


class Invitation(msgspec.Struct, frozen=True):
    """`secret` is random and for this invitation only: a key of the whole group here would let every member read
    redemptions or pose as the admin. `options`: all else, which is what the federation's transport needs."""

    fed_id: str
    fed_name: str
    sync_sched: str
    rest_url: str
    token: str
    secret: bytes
    options: Mapping[str, str]

    @property
    def tid(self) -> str:
        return token_id(self.token)

    def to_map(self) -> dict[str, str]:
        return {
            **self.options,
            "sync_sched": self.sync_sched,
            "fed_name": self.fed_name,
            "fed_secret_key": base64.b64encode(self.secret).decode(),
            "fed_req_token": self.token,
            "fed_rest_url": self.rest_url,
            "fed_id": self.fed_id,
        }

    def admin(self) -> tuple[str, str]:
        """The admin's (cid, pid), which the address of redemption names."""
        parts = _split(self.rest_url)
        match = _REDEMPTION_PATH.fullmatch(parts.path) if parts else None
        if match is None:
            raise InvalidRequest(
                f"fed_rest_url '{self.rest_url[:200]}' is not an address of the form "
                "http://HOST:PORT/symetry/rest/CID/fedml/PID/createPolicies"
            )
        return check_id("customer id", match[1]), check_id("project id", match[2])


def token_id(token: str) -> str:
    """SHA-256 of the token: what the admin stores, so that a stolen store redeems nothing."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_token() -> str:
    """128 random bits in the wire's form."""
    return TOKEN_PREFIX + token_hex(16)


def new_secret() -> bytes:
    return token_bytes(KEY_BYTES)


def redemption_url(host: str, cid: str, pid: str) -> str:
    """Where the admin is reached, from the base URL that the admin gave."""
    parts = _split(host if "://" in host else f"http://{host}")
    if parts is None or parts.query or parts.fragment or parts.username:
        raise InvalidRequest(f"fed_rest_host '{host[:200]}' is not a base address such as http://node1.example:8080")
    base = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    return f"{base}/symetry/rest/{cid}/fedml/{pid}/createPolicies"


def _split(url: str) -> SplitResult | None:
    """The parts of an http or https address, None for anything else."""
    try:
        parts = urlsplit(url)
        return parts if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 else None
    except ValueError:
        return None


def with_current_names(values: Mapping[str, V]) -> dict[str, V]:
    """The older `group_*` names under their present `fed_*` ones; a present name wins."""
    older = {"fed_" + key.removeprefix("group_"): value for key, value in values.items() if key.startswith("group_")}
    return older | {key: value for key, value in values.items() if not key.startswith("group_")}


def parse(named: Mapping[str, str]) -> Invitation:
    """Read an opened invitation under its present names. Raises InvalidRequest naming what is missing or wrong."""
    missing = [key for key in _OWN_KEYS if not named.get(key)]
    if missing:
        raise InvalidRequest(
            f"the invitation lacks {', '.join(missing)}; it must come from a node that runs this software"
        )
    if not re.fullmatch(TOKEN_PREFIX + "[0-9a-f]{32}", named["fed_req_token"]):
        raise InvalidRequest("fed_req_token is not a token of this software: FEDTOKEN and 32 hex digits")
    if not re.fullmatch("[0-9a-f]{32}", named["fed_id"]):
        raise InvalidRequest("fed_id is not 32 hex digits")
    try:
        secret = base64.b64decode(named["fed_secret_key"], validate=True)
    except ValueError as error:
        raise InvalidRequest("fed_secret_key is not base64") from error
    if len(secret) != KEY_BYTES:
        raise InvalidRequest(f"fed_secret_key holds {len(secret)} bytes instead of {KEY_BYTES}")
    invitation = Invitation(
        named["fed_id"],
        named["fed_name"],
        named["sync_sched"],
        named["fed_rest_url"],
        named["fed_req_token"],
        secret,
        {key: value for key, value in named.items() if key not in _OWN_KEYS},
    )
    invitation.admin()
    return invitation
