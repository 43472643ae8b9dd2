"""What a server may send: nats-py's parser with bounds, and headers that anybody may have written.

nats-py gathers a message of whatever size a server announces, and a line that never ends. Here both end the
connection.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nats.errors import ProtocolError
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

from gramian_nats.errors import Misbehaved

if TYPE_CHECKING:
    from gramian_nats.client import StrictClient

MAX_LINE_BYTES = 2**16
"""Longest line of the protocol: what a server says of itself and its cluster."""
MAX_MESSAGE_BYTES = 2**24
"""Largest message. Not the server's max_payload, which binds clients only: a page of 100,000 subjects is larger."""
MAX_HEADER_BYTES = 2**17
"""Longest headers of a message: servers store 64 KiB and add some of their own."""
_PIECE_BYTES = 2**16


class BoundedParser(Parser):
    """Raises Misbehaved, once the connection is dropped, as soon as the next thing to be gathered is too large."""

    def __init__(self, client: StrictClient) -> None:
        super().__init__(client)
        self._client = client

    async def parse(self, data: bytes = b"") -> None:
        """In pieces, between which others have their turn: a WebSocket brings up to MAX_FRAME_BYTES at once."""
        try:
            if len(data) <= _PIECE_BYTES:
                await self._parse(data)
                return
            whole = memoryview(data)
            for start in range(0, len(data), _PIECE_BYTES):
                await self._parse(whole[start : start + _PIECE_BYTES])
                await asyncio.sleep(0)
        except (ProtocolError, OSError):
            self._client.abort()
            raise
        except Exception as error:
            self._client.abort()
            raise Misbehaved("what nats-py cannot read") from error

    async def _parse(self, data: bytes | memoryview) -> None:
        """nats-py appends it to a bytearray, which takes either."""
        await super().parse(data)  # type: ignore[arg-type]
        if self.state == AWAITING_CONTROL_LINE:
            if len(self.buf) > MAX_LINE_BYTES:
                raise Misbehaved(f"a line of more than {MAX_LINE_BYTES} bytes")
        elif self.needed > MAX_MESSAGE_BYTES or self.header_needed > MAX_HEADER_BYTES:
            raise Misbehaved(f"a message of {self.needed} bytes, {self.header_needed} of them headers")


def headers(block: bytes) -> dict[str, str]:
    """The headers of a message, of equal ones the last, with Status and Description if it is the server's own answer.

    Never fails, for a stranger's stored headers come back before those that the server adds. nats-py stops reading for
    good at some.
    """
    first, *lines = block.split(b"\r\n")
    found = {}
    protocol, _, status = first.partition(b" ")
    if protocol == b"NATS/1.0" and status:
        found["Status"], _, found["Description"] = status.decode(errors="replace").partition(" ")
    for line in lines:
        name, _, value = line.partition(b":")
        found[name.decode(errors="replace")] = value.strip().decode(errors="replace")
    return found
