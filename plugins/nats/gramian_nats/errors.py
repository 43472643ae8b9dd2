"""How the errors of NATS become Gramian's: one table, used at the edge of the plugin."""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

from gramian.errors import (
    ContentMissing,
    GramianError,
    RevisionConflict,
    TransportError,
    TransportFull,
    TransportRefused,
    TransportUnavailable,
)
from gramian_nats.options import NatsOptions

MAX_WORDS = 200
"""Longest quote of a server, in characters."""


class ApiError(Exception):
    """A negative answer of the JetStream API. `code`: its err_code; 0 if it gave none."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code
        self.words = words


class NoResponders(Exception):
    """Nothing listens at the subject: the stream, or JetStream itself, is not there."""

    def __str__(self) -> str:
        return "no responders"


class CertificateWanted(Exception):
    """The server says that it wants a client certificate, and there is none."""


class TlsCut(Exception):
    """An encrypted connection ended before the server said that all is well."""


class Misbehaved(OSError):
    """The server sends what makes no sense, or more than it may. An OSError, for nats-py ends the connection then."""


class LineClosed(Exception):
    """The connection ended while something waited for an answer."""

    def __str__(self) -> str:
        return "the connection was closed"


STREAM_NOT_FOUND = 10059
STREAM_NAME_IN_USE = 10058
STREAM_NOT_MADE = 10049
NO_JETSTREAM = (10039, 10076)

_SSL_SOURCE = re.compile(r"\[SSL[^]]*\] | \(_ssl\.c:\d+\)")
"""What Python adds for its own developers."""

_Match: TypeAlias = type[Exception] | int | str
_MEMORY = (
    "does not grant the memory ({words}): lower nats_stream_max_memory, or raise the limit of the server or account"
)
_FEW_SERVERS = (
    "has too few servers with room for the federation ({words}): lower nats_stream_replicas or nats_stream_max_memory"
)
_CLUSTER_BUSY = "is electing a leader or waits for other servers of its cluster ({words}): try again"
_WITHOUT_JETSTREAM = "has JetStream disabled for this login: enable it on the server or account"

# What to look for (an API code, a class, or a part of the text), what it becomes, and the words after
# "NATS at host:port". The first match wins.
_TABLE: tuple[tuple[_Match, type[TransportError], str], ...] = (
    (10023, TransportRefused, _MEMORY),
    (10028, TransportRefused, _MEMORY),
    (10047, TransportRefused, "has no room on its disk for the federation ({words})"),
    (10113, TransportRefused, _MEMORY),
    (10122, TransportRefused, _MEMORY),
    (10005, TransportRefused, _FEW_SERVERS),
    (10074, TransportRefused, _FEW_SERVERS),
    (10026, TransportRefused, "allows this account no more streams ({words}): ask its operator"),
    (10027, TransportRefused, "allows this account no more streams ({words}): ask its operator"),
    (10039, TransportRefused, _WITHOUT_JETSTREAM),
    (10076, TransportRefused, _WITHOUT_JETSTREAM),
    (10054, TransportRefused, "does not take a message of this size ({words})"),
    (10065, TransportRefused, "has another stream on this federation's subjects: remove it"),
    (10004, TransportUnavailable, _CLUSTER_BUSY),
    (10008, TransportUnavailable, _CLUSTER_BUSY),
    (10009, TransportUnavailable, _CLUSTER_BUSY),
    (10010, TransportUnavailable, _CLUSTER_BUSY),
    (10071, RevisionConflict, "has another revision by now"),
    (10164, RevisionConflict, "has another revision by now"),
    (10077, TransportFull, "has no room for the blob ({words}): raise nats_stream_max_memory"),
    (STREAM_NOT_FOUND, ContentMissing, "has no stream of this federation"),
    (10060, ContentMissing, "has no stream of this federation"),
    (NoResponders, ContentMissing, "has no stream of this federation, or none that is led"),
    ("authorization", TransportRefused, "refuses the login: {hints.login_hint}"),
    ("authentication timeout", TransportUnavailable, "did not check the login in time: try again"),
    ("authentication", TransportRefused, "refuses the login ({words}): {hints.login_hint}"),
    ("permissions violation", TransportRefused, "does not let this login do that ({words})"),
    (
        "secure connection",
        TransportRefused,
        "does not offer TLS, which tls:// asks for: use nats:// or set up TLS there",
    ),
    ("maximum payload", TransportRefused, "does not take a message of this size: raise its max_payload"),
    ("unexpected eof", TransportUnavailable, "closed the connection"),
    (LineClosed, TransportUnavailable, "closed the connection"),
    (CertificateWanted, TransportRefused, "asks for a client certificate: {hints.cert_hint}"),
    (TlsCut, TransportUnavailable, "ended the TLS connection early: {hints.cert_hint} if it asks for a certificate"),
    (ssl.SSLCertVerificationError, TransportRefused, "cannot be trusted: {words}: {hints.ca_hint}"),
    (ssl.SSLError, TransportRefused, "does not agree on TLS: {words}: {hints.cert_hint} if it asks for a certificate"),
    (Misbehaved, TransportUnavailable, "cannot be used: it sends {words}"),
    (TimeoutError, TransportUnavailable, "did not answer in time: try again, or raise nats_req_timeout"),
    (OSError, TransportUnavailable, "cannot be reached: {words}"),
    (ApiError, TransportRefused, "refuses: {words}"),
    ("nats: ", TransportUnavailable, "cannot be used: {words}"),  # all else that nats-py raises begins so
)


@contextmanager
def translating(address: str, hints: NatsOptions) -> Iterator[None]:
    """Turn the errors of NATS, sockets and waiting into transport errors that say which option to look at.

    Others pass as they are."""
    try:
        yield
    except Exception as error:
        known = None if isinstance(error, GramianError) else _translated(error, address, hints)
        if known is None:
            raise
        raise known from error


def _translated(cause: Exception, address: str, hints: NatsOptions) -> TransportError | None:
    for match, kind, text in _TABLE:
        if _matches(match, cause):
            words = text.format(words=_words(cause), hints=hints)
            return kind(f"NATS at {address} {words}")
    return None


def _matches(match: _Match, cause: Exception) -> bool:
    if isinstance(match, int):
        return isinstance(cause, ApiError) and cause.code == match
    if isinstance(match, str):
        return not isinstance(cause, ApiError) and match in str(cause).lower()
    return isinstance(cause, match)


def _words(cause: Exception) -> str:
    """What the server or system said, short, printable and on one line."""
    said = str(cause).removeprefix("nats: ") or type(cause).__name__
    if type(cause).__module__ == "builtins" and isinstance(cause, OSError) and cause.errno:
        said = os.strerror(cause.errno)  # asyncio has put Python tuples into its text
    elif isinstance(cause, socket.gaierror):
        said = cause.strerror or said
    elif isinstance(cause, ssl.SSLError):
        said = _SSL_SOURCE.sub("", said)
    return "".join(char if char.isprintable() else " " for char in said)[:MAX_WORDS]
