"""Keys and ids of peers and federations (protocol.md: primitives and names)."""

from __future__ import annotations

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from gramian.domain.canonical import join
from gramian.domain.crypto import hkdf, sha256

ID_CHARS = 32


class PeerKeys(msgspec.Struct, frozen=True):
    """A peer's own key pairs: Ed25519 signs, X25519 receives boxes."""

    signing: Ed25519PrivateKey
    boxing: X25519PrivateKey

    @classmethod
    def derive(cls, node_master: bytes, salt: bytes, cid: str, pid: str) -> PeerKeys:
        """Derived, not stored: a join repeated after a lost reply has the same keys although nothing was left behind.

        `salt`: SHA-256 of the invitation's token; for the admin the federation's random salt.
        """

        def seed(kind: str) -> bytes:
            return hkdf(node_master, salt=salt, info=join("peer", cid, pid, kind))

        return cls(
            Ed25519PrivateKey.from_private_bytes(seed("ed25519")), X25519PrivateKey.from_private_bytes(seed("x25519"))
        )

    @property
    def ed(self) -> bytes:
        return self.signing.public_key().public_bytes_raw()

    @property
    def x(self) -> bytes:
        return self.boxing.public_key().public_bytes_raw()

    @property
    def peer_id(self) -> str:
        return peer_id(self.ed, self.x)


def peer_id(ed: bytes, x: bytes) -> str:
    """First 32 hex digits of SHA-256(ed || x)."""
    return sha256(join(ed, x))[:ID_CHARS]


def fed_id(admin_ed: bytes, salt: bytes) -> str:
    """First 32 hex digits of SHA-256(admin_ed || salt): a federation's id commits to its founder's key."""
    return sha256(join(admin_ed, salt))[:ID_CHARS]


def kek(generation_key: bytes, fed_id: str) -> bytes:
    """The key that wraps the content keys of one generation."""
    return hkdf(generation_key, salt=bytes.fromhex(fed_id), info=b"kek")
