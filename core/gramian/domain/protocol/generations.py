"""Generation keys: what members share, boxed to each in the roster, older ones chained below the newest."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from gramian.domain import crypto
from gramian.domain.canonical import join
from gramian.domain.protocol.keys import kek
from gramian.domain.protocol.roster import Roster
from gramian.errors import Refused

LABEL = "ring"


def ring(key: bytes, x: bytes, fed_id: str) -> str:
    """The generation key for one member."""
    return crypto.encode(crypto.box(x, key, label=LABEL, fed_id=fed_id))


def link(key: bytes, older: bytes, gen: int, fed_id: str) -> str:
    """The key of generation `gen` - 1, sealed under that of `gen`."""
    return crypto.encode(crypto.seal(kek(key, fed_id), older, _aad(gen, fed_id)))


def open_key(roster: Roster, peer_id: str, private: X25519PrivateKey, gen: int) -> bytes:
    """The key of any generation up to the roster's, for a member that it is boxed to. Raises Refused."""
    boxed = roster.rings.get(peer_id)
    if boxed is None or not 0 <= gen <= roster.gen or len(roster.chain) != roster.gen:
        raise Refused(f"the roster gives this node no key of generation {gen}")
    key = crypto.unbox(private, crypto.decode(boxed), label=LABEL, fed_id=roster.fed_id)
    for newer in range(roster.gen, gen, -1):
        sealed = crypto.decode(roster.chain[newer - 1])
        key = crypto.unseal(kek(key, roster.fed_id), sealed, _aad(newer, roster.fed_id))
    return key


def _aad(gen: int, fed_id: str) -> bytes:
    return join("chain", fed_id, str(gen))
