"""The WSGI server: waitress, whose own refusals speak the contract's envelope too."""

from __future__ import annotations

import copy
import json
import logging
import resource
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, BinaryIO

import waitress.server
import waitress.wasyncore
from flask import Flask
from waitress.buffers import FileBasedBuffer
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.receiver import FixedStreamReceiver
from waitress.task import ErrorTask
from waitress.utilities import BadRequest

from gramian.errors import StoreError
from gramian.http.request import too_large
from gramian.turns import TURNS

THREADS = 16
CONNECTIONS = 1000
IDLE_S = 30
POLL_S = 10.0
BACKLOG_NAP_S = 0.002
"""While requests wait for a thread nobody gains if the next are read at once: they are read some at a time."""
HEADER_BYTES = 64 * 1024
CHUNK_LINE_BYTES = 4096
"""The line before a chunk, or the trailers after the last one."""
# It logs each request that waits for a thread, which under load is most of them.
logging.getLogger("waitress.queue").setLevel(logging.ERROR)
_NAMES = {413: "REQUEST_ENTITY_TOO_LARGE", 500: "INTERNAL_SERVER_ERROR"}
Spool = Callable[[str, str, int], BinaryIO | None]
"""Where the body of a PUT to (path, query) with so many bytes goes while it comes; None: where others go."""


class _Spooled(FileBasedBuffer):  # type: ignore[misc]
    """A body that is written to a file of the application's."""

    def append(self, data: bytes) -> None:
        self.file.write(data)
        self.remain += len(data)

    def getfile(self) -> BinaryIO:
        self.file.seek(0)
        file: BinaryIO = self.file
        return file


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """Also refuses what waitress's own parser trips over or would collect without end."""

    adj: Any
    body_rcv: Any

    def received(self, data: bytes) -> int:
        consumed = int(super().received(data))
        if self.chunked and len(self.body_rcv.control_line) + len(self.body_rcv.trailer) > CHUNK_LINE_BYTES:
            self.error = BadRequest("Chunk line or trailers are too long")
            self.completed = True
        if self.error:
            # Whoever asks before sending the body gets the refusal at once.
            self.expect_continue = False
        return consumed

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ValueError as error:
            # An address such as http://[, or a length of thousands of digits.
            raise ParsingError("Bad URI or Content-Length") from error
        if self.command == "PUT" and self.content_length > 0 and not self.chunked:
            self._spool()

    def _spool(self) -> None:
        """Write a body to where the application wants it, whatever its size: it has said that it may come."""
        try:
            file = self.adj.gramian_spool(self.path, self.query, self.content_length)
        except StoreError:
            file = None  # the application meets the same trouble, and answers
        if file is not None:
            self.body_rcv = FixedStreamReceiver(self.content_length, _Spooled(file))
            self.adj = copy.copy(self.adj)
            self.adj.max_request_body_size = self.content_length + 1


class _EnvelopeTask(ErrorTask):  # type: ignore[misc]
    """Answers requests that never reach the application: malformed ones and those over a limit."""

    def execute(self) -> None:
        code, text = self._refusal()
        body = json.dumps({"statusCode": _NAMES.get(code, "BAD_REQUEST"), "statusString": text, "values": {}}).encode()
        self.status = f"{code} {HTTPStatus(code).phrase}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)

    def _refusal(self) -> tuple[int, str]:
        """HTTP status and text. A transfer encoding that is not known is the caller's to fix, so no 501."""
        error, limits = self.request.error, self.channel.adj
        if error.code == 500:
            return 500, "Generic Exception"
        if error.code == 413:
            limit = limits.max_request_body_size - 1
            return 413, too_large(limit)
        if error.code == 431:
            return 431, f"the headers have more than {limits.max_request_header_size} bytes: send shorter ones"
        return 400, f"the request is malformed HTTP: {error.body[:100]}"


class _Channel(HTTPChannel):  # type: ignore[misc]
    parser_class = _Parser
    error_task_class = _EnvelopeTask

    def service(self) -> None:
        """Answer a request, in turns with other threads that do."""
        with TURNS.turn():
            super().service()


class Server:
    """Listens on construction, serves in `run` until `stop`. Raises OSError if it cannot listen."""

    def __init__(
        self,
        app: Flask,
        host: str,
        port: int,
        *,
        body_limit_bytes: int,
        spool: Spool = lambda _path, _query, _size_bytes: None,
    ) -> None:
        """`port` 0 takes a free one. Bodies beyond the limit are not read, but those that `spool` takes."""
        # One address: a name such as localhost may have several, and a free port is free on one.
        address = str(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0])
        self._server = waitress.server.create_server(
            app,
            host=address,
            port=port,
            threads=THREADS,
            connection_limit=_connections(),
            channel_timeout=IDLE_S,
            cleanup_interval=IDLE_S // 3,
            max_request_body_size=body_limit_bytes + 1,
            max_request_header_size=HEADER_BYTES,
            ident="gramian",
            clear_untrusted_proxy_headers=True,
        )
        self._server.channel_class = _Channel
        self._server.adj.gramian_spool = spool
        self._stopping = False

    @property
    def port(self) -> int:
        return int(self._server.effective_port)

    def run(self) -> None:
        """Serve; at the end what is being answered is finished, within a few seconds."""
        while not self._stopping:
            if self._server.task_dispatcher.queue and not self._is_receiving():
                time.sleep(BACKLOG_NAP_S)
            # By poll: select cannot watch descriptors above 1023, and ends the server when one comes.
            self._server.asyncore.loop(timeout=POLL_S, use_poll=True, map=self._server._map, count=1)
        self._server.task_dispatcher.shutdown()
        waitress.wasyncore.close_all(self._server._map)

    def _is_receiving(self) -> bool:
        """Whether part of a request has come, and not all of it."""
        return any(channel.request is not None for channel in list(self._server.active_channels.values()))

    def stop(self) -> None:
        """End `run`; from any thread or a signal handler."""
        self._stopping = True
        # Closed already if `run` has just seen the line above.
        with suppress(OSError):
            self._server.pull_trigger()


def _connections() -> int:
    """How many to hold so that descriptors are left: each may take two, one for a large body on disk."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS if most == resource.RLIM_INFINITY else min(CONNECTIONS, most // 3)
