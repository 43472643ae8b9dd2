"""TLS as the options ask for it."""

from __future__ import annotations

import os
import ssl
import tempfile

from gramian_nats.options import NatsOptions


def context(options: NatsOptions) -> ssl.SSLContext:
    """Trusts the system's authorities, or those of nats_tls_ca only; shows the client certificate if there is one."""
    made = ssl.create_default_context(cadata=options.tls_ca)
    if options.tls_cert is not None and options.tls_key is not None:
        _load_own(made, options.tls_cert, options.tls_key)
    return made


def _load_own(made: ssl.SSLContext, certificate: str, key: str) -> None:
    """OpenSSL takes these from files only: one that has no name where the system offers that, else one for a moment."""
    text = f"{key}\n{certificate}\n".encode()
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("gramian-tls"), "wb") as file:
            file.write(text)
            file.flush()
            made.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
        return
    with tempfile.NamedTemporaryFile() as file:  # its owner's alone
        file.write(text)
        file.flush()
        made.load_cert_chain(file.name)
