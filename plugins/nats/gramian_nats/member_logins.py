"""Logins that an admin's node hands to each member, inside the sealed answer to its redemption (`nats_member_creds`).

Either a list of logins that the operator has made, or the seed of an account: then this module signs a user for each
member, with the permissions of `permissions.member`. Format of the JWTs: NATS ADR-14, version 2 claims.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from secrets import token_bytes, token_hex
from typing import Any

import msgspec

from gramian.domain.canonical import canonical_json
from gramian.errors import InvalidRequest, TransportRefused
from gramian_nats import permissions
from gramian_nats.credentials import credentials, credentials_text, key_pair, subject_of, user_seed

OPTION = "nats_member_creds"
FROM_REDEMPTION = "redemption"
"""What stands in an invitation: the login comes with the answer to the redemption."""
LOGIN_OPTIONS = ("nats_sec_user", "nats_sec_passwd", "nats_sec_token", "nats_sec_nkey_seed", "nats_sec_creds")
MAX_CHARS = 200_000
_FORMS = (
    f"{OPTION} must be a JSON list of logins, each an object with nats_sec_user and nats_sec_passwd, nats_sec_token, "
    "nats_sec_nkey_seed or nats_sec_creds; or an account's signing seed (SA...), followed by a blank and the account's "
    "id (A...) if it is not the account's own key"
)


@dataclass(frozen=True, slots=True)
class Signer:
    """An account that signs its members' logins. `account`: its id."""

    seed: str
    account: str

    def text(self) -> str:
        return f"{self.seed} {self.account}"


def checked(text: str) -> str:
    """The option in its usual form. Raises InvalidRequest, without showing any of it."""
    if text.strip() == FROM_REDEMPTION:
        return FROM_REDEMPTION
    found = _parsed(text)
    return found.text() if isinstance(found, Signer) else canonical_json(found).decode()


def login_for(text: str, fed_id: str, peer_id: str, given: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """One member's login: signed for it, or the first of the list that nobody was given.

    Raises TransportRefused when the list is used up.
    """
    found = _parsed(text)
    if isinstance(found, Signer):
        return {"nats_sec_creds": _signed(found, fed_id, peer_id)}
    for login in found:
        if not any(login.items() <= each.items() for each in given):
            return login
    raise TransportRefused(f"all {len(found)} logins of {OPTION} are given away: add more")


def removal(login: Mapping[str, str], account: str = "") -> str:
    """How an operator takes a login away. Names it, and shows no secret."""
    if "nats_sec_creds" in login:
        user = subject_of(login["nats_sec_creds"])
        named = account or "ACCOUNT"
        return (
            f"revoke its NATS login: nsc revocations add-user --account {named} --user-public-key {user}, then nsc "
            f'push; without nsc add "{user}": {int(time.time())} to "revocations" in the JWT of the account'
        )
    if "nats_sec_user" in login:
        return f"remove the NATS user '{login['nats_sec_user']}' from the server's configuration and reload it"
    if "nats_sec_nkey_seed" in login:
        user = key_pair(login["nats_sec_nkey_seed"]).public_key.decode()
        return f"remove the NATS user {user} from the server's configuration and reload it"
    return "remove the NATS token that it was given from the server's configuration and reload it"


def account_of(text: str) -> str:
    """The id of the account that signs, empty for a list."""
    found = _parsed(text)
    return found.account if isinstance(found, Signer) else ""


def _parsed(text: str) -> Signer | list[dict[str, str]]:
    if len(text) > MAX_CHARS:
        raise InvalidRequest(f"{OPTION} has at most {MAX_CHARS} characters")
    if text.lstrip().startswith("["):
        return _logins(text)
    found = re.fullmatch(r"\s*(SA[A-Z2-7]{56})(?:\s+(A[A-Z2-7]{55}))?\s*", text)
    if found is None:
        raise InvalidRequest(_FORMS)
    public = _account_key(found[1])
    return Signer(found[1], found[2] or public)


def _account_key(seed: str) -> str:
    import nkeys

    try:
        kind, raw = nkeys.decode_seed(seed.encode())
        # Only the round trip checks the checksum.
        if kind != nkeys.PREFIX_BYTE_ACCOUNT or nkeys.encode_seed(raw, kind).decode() != seed:
            raise InvalidRequest(_FORMS)
        public: str = key_pair(seed).public_key.decode()
    except (nkeys.NkeysError, ValueError):
        raise InvalidRequest(_FORMS) from None
    return public


def _logins(text: str) -> list[dict[str, str]]:
    try:
        found = msgspec.json.decode(text, type=list[dict[str, str]])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise InvalidRequest(_FORMS) from None
    logins = [_login(each) for each in found]
    if not logins or len({canonical_json(login) for login in logins}) != len(logins):
        raise InvalidRequest(f"{OPTION} must hold one login or more, and none twice")
    return logins


def _login(values: Mapping[str, str]) -> dict[str, str]:
    login = {key: value for key, value in values.items() if value}
    ways = [{"nats_sec_user", "nats_sec_passwd"}, *({key} for key in LOGIN_OPTIONS[2:])]
    if set(login) not in ways or not all(
        value.isprintable() or key == "nats_sec_creds" for key, value in login.items()
    ):
        raise InvalidRequest(_FORMS)
    if "nats_sec_nkey_seed" in login:
        return {"nats_sec_nkey_seed": user_seed(login["nats_sec_nkey_seed"])}
    return {"nats_sec_creds": credentials(login["nats_sec_creds"])} if "nats_sec_creds" in login else login


def _signed(signer: Signer, fed_id: str, peer_id: str) -> str:
    """The text of a credentials file for a new user of the account."""
    import nkeys

    seed = nkeys.encode_seed(token_bytes(32), nkeys.PREFIX_BYTE_USER).decode()
    user: str = key_pair(seed).public_key.decode()
    may = permissions.member(fed_id, peer_id, user)
    claims: dict[str, Any] = {
        "jti": token_hex(16),
        "iat": int(time.time()),
        "iss": _account_key(signer.seed),
        "name": f"grm_{peer_id}",
        "sub": user,
        "nats": {
            "type": "user",
            "version": 2,
            "pub": {"allow": may.publish},
            "sub": {"allow": may.subscribe},
            "subs": -1,
            "data": -1,
            "payload": -1,
        },
    }
    if claims["iss"] != signer.account:
        claims["nats"]["issuer_account"] = signer.account
    text = f"{_part({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_part(claims)}"
    signature = _base64url(key_pair(signer.seed).sign(text.encode()))
    return credentials_text(f"{text}.{signature}", seed)


def _part(value: Mapping[str, Any]) -> str:
    return _base64url(canonical_json(value))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
