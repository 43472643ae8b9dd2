"""The primitives of the federation protocol, in one place: Ed25519, HKDF-SHA256, AES-256-GCM, a sealed box.

Nonces and ephemeral keys come from the operating system here and nowhere else in the domain.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from secrets import token_bytes

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gramian.domain.canonical import Data, join
from gramian.errors import BadSeal, Refused

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
SIGNATURE_BYTES = 64


def hkdf(secret: bytes, *, salt: bytes, info: bytes) -> bytes:
    """Derive a 32-byte key."""
    return HKDF(SHA256(), KEY_BYTES, salt, info).derive(secret)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sign(key: Ed25519PrivateKey, label: str, data: bytes) -> bytes:
    """Ed25519 over label || 0x00 || data."""
    return key.sign(label.encode() + b"\0" + data)


def verify(public: bytes, label: str, data: bytes, signature: bytes) -> None:
    """Raise Refused unless `signature` is `public`'s over label and data."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, label.encode() + b"\0" + data)
    except (InvalidSignature, ValueError) as error:
        raise Refused(f"the signature of the {label} is wrong") from error


def seal(key: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """AES-256-GCM under a fresh random nonce: nonce || ciphertext || tag."""
    nonce = token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, aad)


def unseal(key: bytes, sealed: bytes, aad: bytes) -> bytes:
    """Open what `seal` made. Raises BadSeal."""
    return _decrypted(key, sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], aad)


def seal_counted(key: bytes, counter: int, plaintext: Data, aad: bytes) -> bytes:
    """AES-256-GCM with a counter as nonce, for keys that are used for one blob only."""
    return AESGCM(key).encrypt(counter.to_bytes(NONCE_BYTES, "big"), plaintext, aad)


def unseal_counted(key: bytes, counter: int, sealed: Data | memoryview, aad: bytes) -> bytes:
    """Open what `seal_counted` made. Raises BadSeal."""
    return _decrypted(key, counter.to_bytes(NONCE_BYTES, "big"), sealed, aad)


def _decrypted(key: bytes, nonce: bytes, sealed: Data | memoryview, aad: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(nonce, sealed, aad)
    except (InvalidTag, ValueError) as error:
        raise BadSeal("a sealed message does not open: another key, or altered") from error


def box(public: bytes, plaintext: bytes, *, label: str, fed_id: str) -> bytes:
    """Seal for the owner of an X25519 key: ephemeral public key || ciphertext. The key is used once: nonce 0.

    Raises Refused for a key of low order, with which nothing is secret.
    """
    ephemeral = X25519PrivateKey.generate()
    try:
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise Refused("a member's public key takes no box") from error
    head = ephemeral.public_key().public_bytes_raw()
    return head + seal_counted(_box_key(shared, head, public, label, fed_id), 0, plaintext, b"")


def unbox(private: X25519PrivateKey, sealed: bytes, *, label: str, fed_id: str) -> bytes:
    """Open what `box` made. Raises BadSeal."""
    head = sealed[:KEY_BYTES]
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(head))
    except ValueError as error:
        raise BadSeal("a sealed message does not open: another key, or altered") from error
    key = _box_key(shared, head, private.public_key().public_bytes_raw(), label, fed_id)
    return unseal_counted(key, 0, sealed[KEY_BYTES:], b"")


def _box_key(shared: bytes, ephemeral: bytes, public: bytes, label: str, fed_id: str) -> bytes:
    return hkdf(shared, salt=join(ephemeral, public), info=join(label, fed_id))


def encode(data: bytes) -> str:
    """Base64 text for JSON."""
    return base64.b64encode(data).decode()


def decode(text: str) -> bytes:
    """Inverse of `encode`, strict. Raises Refused."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused("a message holds something that is not base64") from error
