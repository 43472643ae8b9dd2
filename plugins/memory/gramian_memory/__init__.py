"""Gramian's transport within one process: for tests and tutorials, where nodes need neither a network nor a server."""

from __future__ import annotations

from gramian.hookspecs import hookimpl
from gramian.ports import Transport

gramian_api = "1"


@hookimpl
def gramian_transport() -> Transport:
    from gramian_memory.transport import MemoryTransport

    return MemoryTransport()
