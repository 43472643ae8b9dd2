"""The nats-py client, with the things that it leaves out.

Imports nats-py (50 ms), so it is itself imported only when the first connection is made.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from nats import errors
from nats.aio.client import DEFAULT_BUFFER_SIZE, Client, Srv

from gramian_nats.errors import CertificateWanted, Misbehaved
from gramian_nats.parser import MAX_LINE_BYTES, BoundedParser, headers
from gramian_nats.tcp import TcpLine


@runtime_checkable
class Abortable(Protocol):
    """What both transports of this package can do beyond nats-py's."""

    def abort(self) -> None: ...


class StrictClient(Client):
    """A client for one connection to one server; whoever holds it makes a new one when it breaks."""

    server_info: dict[str, Any]
    """What the server said about itself when the connection began."""

    def __init__(self, ip: str, *, has_certificate: bool) -> None:
        super().__init__()
        self._ip = ip
        self._has_certificate = has_certificate
        self._ps = BoundedParser(self)

    async def _connect_to_server(self, s: Srv) -> None:
        """With transports that can be aborted, and a WebSocket that goes to the address that was judged."""
        timeout_s = self.options["connect_timeout"]
        if s.uri.scheme == "wss":
            from gramian_nats.websocket import PinnedWebSocket

            self._transport = self._transport or PinnedWebSocket(self._ip)
            await self._transport.connect_tls(s.uri, self.ssl_context, DEFAULT_BUFFER_SIZE, timeout_s)
        else:
            self._transport = TcpLine()  # type: ignore[no-untyped-call]
            await self._transport.connect(s.uri, MAX_LINE_BYTES, timeout_s)

    async def _process_connect_init(self) -> None:
        """Say it as an error of the line, which is what nats-py expects, if it cannot make sense of the greeting."""
        try:
            await super()._process_connect_init()
        except OSError:  # a certificate that does not convince is a ValueError too
            raise
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise Misbehaved("a greeting that makes no sense") from error

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """Stop before the login goes out if tls:// was asked for and isn't offered.

        nats-py goes on in clear text then, so that whoever sits in between reads the password.
        """
        if initial_connection:
            self.server_info = info
            if self._current_server and self._current_server.uri.scheme == "tls" and not info.get("tls_required"):
                raise errors.SecureConnWantedError
            if info.get("tls_verify") and not self._has_certificate:
                raise CertificateWanted
        # Servers that it recommends are never called, and nats-py would remember them without end.
        await super()._process_info({**info, "connect_urls": []}, initial_connection)

    async def _process_op_err(self, e: Exception) -> None:
        """Forget what was still to be sent: nats-py tries to send it over the broken line, and if that fails, nobody
        hears that the connection has ended."""
        self._pending.clear()
        self._pending_data_size = 0
        await super()._process_op_err(e)

    async def _process_headers(self, block: bytes | None) -> dict[str, str] | None:
        return headers(block) if block else None

    async def round_trip(self, timeout_s: int) -> None:
        """Until the server has seen all that was sent before. nats-py's PING alone overtakes what is pending."""
        await self._flush_pending(force_flush=True)
        await self.rtt(timeout=timeout_s)

    def abort(self) -> None:
        """Drop the socket with whatever is still to be sent: `close` waits for a peer that reads no more."""
        if isinstance(self._transport, Abortable):
            self._transport.abort()
