"""Sealed bodies and invitations: the contract's old ciphers (section 3) and our authenticated ones (`gramian.v2`).

v1 bodies:       base64(AES-CBC(secret key, fixed IV)), PKCS7
v1 invitations:  base64(AES-ECB(password padded with the character 0 to 16, 24 or 32 bytes)), PKCS7
v2 bodies:       `gramian.v2.`  + base64url(nonce || AES-256-GCM(HKDF(secret key), AAD = method || cid || path))
v2 invitations:  `gramian.v2p.` + base64url(salt || nonce || AES-256-GCM(scrypt(password, salt)))

v1 is weak (equal openings give equal ciphertexts, nothing is authenticated) and kept for existing clients only.
Whatever goes wrong while opening gives the one text of `BadSeal`, so that no caller learns which step failed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from enum import StrEnum
from typing import TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.padding import PKCS7

from gramian.domain.canonical import join
from gramian.errors import BadSeal, InvalidRequest

RandomBytes: TypeAlias = Callable[[int], bytes]
"""Returns that many fresh random bytes, as `secrets.token_bytes`."""

MAX_PASSWORD_BYTES = 1024

_FIXED_IV = bytes.fromhex("2f3339414b576575879bb1c9e3001e3e")
_V2 = "gramian.v2."
_V2_PASSWORD = "gramian.v2p."  # noqa: S105 - a marker of the format
_NONCE_BYTES = 12
_SALT_BYTES = 16
_BASE64URL = re.compile(rb"[A-Za-z0-9_-]+")


class Scheme(StrEnum):
    """Answers come in the scheme of the request."""

    V1 = "v1"
    V2 = "v2"


def body_scheme(text: bytes) -> Scheme:
    """The scheme a sealed body is in, by its prefix."""
    return Scheme.V2 if text.lstrip().startswith(_V2.encode()) else Scheme.V1


def open_body(
    text: bytes, key: bytes, *, method: str, cid: str, path: str, require_v2: bool = False
) -> tuple[bytes, Scheme]:
    """The plaintext, in v1 UTF-8, and scheme of a sealed body. Raises BadSeal, or InvalidRequest for v1 under
    `require_v2`."""
    scheme = body_scheme(text)
    if scheme is Scheme.V2:
        return open_v2(text, key, method=method, cid=cid, path=path), scheme
    if require_v2:
        raise InvalidRequest(f"this server refuses the contract's old ciphers: seal bodies as {_V2}")
    plaintext = open_v1(text, key)
    # One in 256 altered texts happens to end as a sealed one does. What is wrong with its JSON would tell that.
    if not _is_utf8(plaintext):
        raise _bad_seal()
    return plaintext, scheme


def seal_body(
    plaintext: bytes, key: bytes, scheme: Scheme, random: RandomBytes, *, method: str, cid: str, path: str
) -> str:
    """Seal a request body, or an entity of a reply, in `scheme`; method, cid and path are the request's."""
    if scheme is Scheme.V1:
        return seal_v1(plaintext, key)
    return seal_v2(plaintext, key, random, method=method, cid=cid, path=path)


def open_invitation(text: bytes, password: str) -> tuple[bytes, Scheme]:
    """The plaintext and scheme of an invitation. Raises BadSeal, InvalidRequest for an impossible password."""
    if text.lstrip().startswith(_V2_PASSWORD.encode()):
        return open_invitation_v2(text, password), Scheme.V2
    return open_invitation_v1(text, password), Scheme.V1


def seal_invitation(plaintext: bytes, password: str, scheme: Scheme, random: RandomBytes) -> str:
    """Seal an invitation with its password in `scheme`."""
    if scheme is Scheme.V1:
        return seal_invitation_v1(plaintext, password)
    return seal_invitation_v2(plaintext, password, random)


def seal_v1(plaintext: bytes, key: bytes) -> str:
    return _encrypt(plaintext, Cipher(AES(key), modes.CBC(_FIXED_IV)))


def open_v1(text: bytes, key: bytes) -> bytes:
    return _decrypt(_from_base64(text), Cipher(AES(key), modes.CBC(_FIXED_IV)))


def seal_invitation_v1(plaintext: bytes, password: str) -> str:
    return _encrypt(plaintext, _ecb(_padded(password)))


def open_invitation_v1(text: bytes, password: str) -> bytes:
    """Open the form that the contract's samples have (ECB), then the form that its text describes (CBC).

    One in 256 texts of the second form unpads in the first, so an opening must also look like a JSON object.
    """
    key, ciphertext = _padded(password), _from_base64(text)
    for cipher in (_ecb(key), Cipher(AES(key), modes.CBC(_FIXED_IV))):
        try:
            plaintext = _decrypt(ciphertext, cipher)
        except BadSeal:
            continue
        if _looks_like_object(plaintext):
            return plaintext
    raise _bad_seal()


def seal_v2(plaintext: bytes, key: bytes, random: RandomBytes, *, method: str, cid: str, path: str) -> str:
    nonce = random(_NONCE_BYTES)
    sealed = AESGCM(_body_key(key)).encrypt(nonce, plaintext, join(method, cid, path))
    return _V2 + _to_base64url(nonce + sealed)


def open_v2(text: bytes, key: bytes, *, method: str, cid: str, path: str) -> bytes:
    data = _from_base64url(text, _V2)
    return _open_gcm(_body_key(key), data, join(method, cid, path))


def seal_invitation_v2(plaintext: bytes, password: str, random: RandomBytes) -> str:
    salt, nonce = random(_SALT_BYTES), random(_NONCE_BYTES)
    sealed = AESGCM(_password_key(password, salt)).encrypt(nonce, plaintext, None)
    return _V2_PASSWORD + _to_base64url(salt + nonce + sealed)


def open_invitation_v2(text: bytes, password: str) -> bytes:
    data = _from_base64url(text, _V2_PASSWORD)
    return _open_gcm(_password_key(password, data[:_SALT_BYTES]), data[_SALT_BYTES:], None)


def _bad_seal() -> BadSeal:
    return BadSeal("the sealed text does not open: the key or password is wrong, or it was altered")


def _ecb(key: bytes) -> Cipher[modes.ECB]:
    return Cipher(AES(key), modes.ECB())  # noqa: S305 - the contract's published invitation is in this mode


def _encrypt(plaintext: bytes, cipher: Cipher[modes.ECB] | Cipher[modes.CBC]) -> str:
    padder, encryptor = PKCS7(AES.block_size).padder(), cipher.encryptor()
    padded = padder.update(plaintext) + padder.finalize()
    return base64.b64encode(encryptor.update(padded) + encryptor.finalize()).decode()


def _decrypt(ciphertext: bytes, cipher: Cipher[modes.ECB] | Cipher[modes.CBC]) -> bytes:
    unpadder, decryptor = PKCS7(AES.block_size).unpadder(), cipher.decryptor()
    try:
        padded = decryptor.update(ciphertext) + decryptor.finalize()
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError:
        raise _bad_seal() from None


def _open_gcm(key: bytes, data: bytes, associated: bytes | None) -> bytes:
    try:
        return AESGCM(key).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], associated)
    except (InvalidTag, ValueError):  # ValueError: too short for a nonce
        raise _bad_seal() from None


def _body_key(key: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=b"gramian/v2/body").derive(key)


def _password_key(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(_password_bytes(password), salt=salt, n=2**15, r=8, p=1, maxmem=64 * 2**20, dklen=32)


def _padded(password: str) -> bytes:
    """The password's bytes, filled up with the character 0 to the next AES key size."""
    raw = _password_bytes(password)
    for size in (16, 24, 32):
        if len(raw) <= size:
            return raw.ljust(size, b"0")
    raise InvalidRequest("this form of invitation takes a password of at most 32 bytes")


def _password_bytes(password: str) -> bytes:
    try:
        raw = password.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("the password is not valid Unicode text") from None
    if not 1 <= len(raw) <= MAX_PASSWORD_BYTES:
        raise InvalidRequest(f"the password must have 1 to {MAX_PASSWORD_BYTES} bytes")
    return raw


def _is_utf8(plaintext: bytes) -> bool:
    try:
        plaintext.decode()
    except UnicodeDecodeError:
        return False
    return True


def _looks_like_object(plaintext: bytes) -> bool:
    return _is_utf8(plaintext) and plaintext.strip().startswith(b"{") and plaintext.strip().endswith(b"}")


def _from_base64(text: bytes) -> bytes:
    """Strict except for white space, which mail and terminals insert."""
    try:
        return binascii.a2b_base64(b"".join(text.split()), strict_mode=True)
    except ValueError:
        raise _bad_seal() from None


def _to_base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _from_base64url(text: bytes, prefix: str) -> bytes:
    digits = b"".join(text.split()).removeprefix(prefix.encode())
    if _BASE64URL.fullmatch(digits) is None:
        raise _bad_seal()
    try:
        return base64.urlsafe_b64decode(digits + b"=" * (-len(digits) % 4))
    except ValueError:
        raise _bad_seal() from None
