"""Texts that identify somebody: NKEY seeds, credentials files, certificates. Checked before anything is dialled.

They travel as text, never as paths: a caller of the REST API must not make the server read its files.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

import msgspec

from gramian.domain import typed
from gramian.errors import InvalidRequest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from cryptography.x509 import Certificate

MAX_PEM_CHARS = 32_768
MAX_CREDS_CHARS = 16_384

_CREDS = re.compile(
    r"-----BEGIN NATS USER JWT-----\s+(?P<jwt>[\w.-]+)\s+------END NATS USER JWT------"
    r"[^\0]{0,1024}?-----BEGIN USER NKEY SEED-----\s+(?P<seed>\w+)\s+------END USER NKEY SEED------"
)
_CREDS_FORM = """\
-----BEGIN NATS USER JWT-----
{jwt}
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
{seed}
------END USER NKEY SEED------
"""
_NOT_CREDS = (
    "nats_sec_creds must be the text of a credentials file: a user's JWT and the seed of the same user, "
    "as `nsc generate creds` writes them"
)


class _Claims(msgspec.Struct):
    """The part of a user's JWT that is looked at here; the rest is the server's business. `sub`: the user's NKEY."""

    sub: str


def user_seed(seed: str) -> str:
    """The trimmed seed. Raises InvalidRequest unless it is one of kind user, by its checksum too."""
    if _public_key(seed.strip()) is None:
        raise InvalidRequest(
            "nats_sec_nkey_seed is not the seed of a user: it starts with SU and has 58 characters (nk -gen user)"
        )
    return seed.strip()


def credentials(text: str) -> str:
    """The text of a credentials file in its usual form. Raises InvalidRequest unless its two halves fit together."""
    found = _CREDS.search(text) if len(text) <= MAX_CREDS_CHARS else None
    if found is None or _subject(found["jwt"]) != (_public_key(found["seed"]) or ""):
        raise InvalidRequest(_NOT_CREDS)
    return credentials_text(found["jwt"], found["seed"])


def credentials_text(jwt: str, seed: str) -> str:
    return _CREDS_FORM.format(jwt=jwt, seed=seed)


def subject_of(creds: str) -> str:
    """Whose credentials these are: the user's NKEY. `creds` is checked text."""
    found = _CREDS.search(creds)
    return (_subject(found["jwt"]) if found else None) or ""


def key_pair(seed: str) -> Any:
    """The key pair of a seed of any kind. Raises nkeys.NkeysError, ValueError."""
    import nkeys

    return nkeys.from_seed(bytearray(seed.encode()))


def authorities(text: str) -> str:
    """The trimmed PEM text of the certificates to trust. Raises InvalidRequest."""
    _certificates(text, "nats_tls_ca")
    return text.strip()


def client_certificate(certificate: str, key: str) -> tuple[str, str]:
    """The trimmed PEM texts of a certificate (its chain may follow) and its key. Raises InvalidRequest."""
    from cryptography.exceptions import UnsupportedAlgorithm

    own = _certificates(certificate, "nats_tls_cert")[0]
    try:
        fits = own.public_key() == _key_of(key)
    except (ValueError, UnsupportedAlgorithm):
        fits = False
    if not fits:
        raise InvalidRequest("nats_tls_key is not the key of the first certificate in nats_tls_cert")
    return certificate.strip(), key.strip()


def _certificates(text: str, option: str) -> list[Certificate]:
    from cryptography import x509

    try:
        if len(text) > MAX_PEM_CHARS or "PRIVATE KEY" in text:
            raise ValueError
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        raise InvalidRequest(
            f"{option} must be the text (not the path) of certificates in PEM form, at most {MAX_PEM_CHARS} "
            "characters, and no private key"
        ) from None


def _key_of(text: str) -> PublicKeyTypes:
    """The public half of a PEM text's private key."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        if len(text) > MAX_PEM_CHARS:
            raise ValueError
        return load_pem_private_key(text.encode(), password=None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InvalidRequest(
            f"nats_tls_key must be the text (not the path) of a private key in PEM form without a passphrase, at most "
            f"{MAX_PEM_CHARS} characters"
        ) from None


def _public_key(seed: str) -> str | None:
    """The NKEY of a user's seed; None if it is no such seed."""
    import nkeys  # costs as much as all other checks, and few options need it

    if not seed.isascii():
        return None
    try:
        kind, raw = nkeys.decode_seed(seed.encode())
        if kind != nkeys.PREFIX_BYTE_USER or nkeys.encode_seed(raw, kind).decode() != seed:
            return None
        return str(nkeys.from_seed(seed.encode()).public_key.decode())
    except (nkeys.NkeysError, ValueError):
        return None


def _subject(jwt: str) -> str | None:
    """Whose JWT it is. Its signature is for the server to check."""
    try:
        _, claims, _ = jwt.split(".")
        return typed.decode(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)), _Claims).sub
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return None
