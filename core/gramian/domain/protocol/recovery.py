"""The recovery key: its holder makes a member the admin when the admin's node is lost (protocol.md, roster).

The federation's id commits to the recovery key, through the salt, as it does to the founder's key. So nobody can add,
drop or change the key later, and a roster of any admin proves itself from the federation's id alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gramian.domain import crypto
from gramian.domain.canonical import join
from gramian.domain.protocol.fields import Count, HexKey, HexSignature
from gramian.errors import Refused

LABEL = "succession"
MAX_SUCCESSIONS = 64


class Succession(msgspec.Struct, frozen=True):
    """The recovery key's word that a member is the admin from now on. The first has number 1."""

    number: Annotated[int, msgspec.Meta(ge=1, le=MAX_SUCCESSIONS)]
    admin_ed: HexKey
    admin_x: HexKey
    ts: Count
    signature: HexSignature


def salt(nonce: bytes, recovery_ed: bytes) -> bytes:
    """The salt of a federation that is founded with a recovery key; `nonce` makes it the federation's own."""
    return bytes.fromhex(crypto.sha256(join("recovery", nonce, recovery_ed)))


def succeed(
    key: Ed25519PrivateKey, fed_id: str, before: Sequence[Succession], *, admin_ed: str, admin_x: str, ts: int
) -> Succession:
    """The next succession. Raises Refused if there were too many."""
    if len(before) >= MAX_SUCCESSIONS:
        raise Refused(f"a federation has at most {MAX_SUCCESSIONS} successions: found another one")
    number = len(before) + 1
    signature = crypto.sign(key, LABEL, _text(fed_id, number, admin_ed, admin_x, ts))
    return Succession(number, admin_ed, admin_x, ts, signature.hex())


def check(successions: Sequence[Succession], fed_id: str, recovery_ed: bytes) -> None:
    """Raises Refused unless the recovery key signed every one for this federation, in this order."""
    for number, each in enumerate(successions, 1):
        if each.number != number:
            raise Refused("the roster's successions are not in order")
        text = _text(fed_id, each.number, each.admin_ed, each.admin_x, each.ts)
        crypto.verify(recovery_ed, LABEL, text, bytes.fromhex(each.signature))


def _text(fed_id: str, number: int, admin_ed: str, admin_x: str, ts: int) -> bytes:
    return join(fed_id, str(number), admin_ed, admin_x, str(ts))
