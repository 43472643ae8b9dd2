"""A learn request of 20 MB to a real server process, against nothing but decoding the same bytes here."""

from __future__ import annotations

import socket
from typing import Any

import msgspec
import numpy as np

from benchmarks import nodes
from benchmarks.load import received
from benchmarks.results import Row, ratio
from benchmarks.suite import note
from benchmarks.timing import timed
from gramian.client.rows import dataframe

BODY_BYTES = 20_000_000
COLUMNS = 50
REPETITIONS = 7


def run() -> list[Row]:
    note("HTTP learn")
    body = _body()
    with nodes.scratch() as directory, nodes.serving(directory / "home", "org") as site:
        site.client.create_project("study")
        pairs = [_pair(site, body) for _ in range(REPETITIONS + 1)][1:]
    ours, bare = (min(times) for times in zip(*pairs, strict=True))
    detail = (
        f"{len(body) / 1e6:.0f} MB, {COLUMNS} columns; the whole request to a server process; least of {REPETITIONS}"
    )
    return [ratio("HTTP learn of a JSON DataFrame", ours, bare, 0.8, detail)]


def _body() -> bytes:
    """Cells with all their digits."""
    rng = np.random.default_rng(3)
    row_bytes = len(msgspec.json.encode(dataframe([], [], rng.normal(size=(100, COLUMNS)))["data"])) / 100
    rows = rng.normal(size=(int(BODY_BYTES / row_bytes), COLUMNS))
    return msgspec.json.encode(dataframe([f"x{i:02d}" for i in range(COLUMNS)], "C" * COLUMNS, rows))


def _pair(site: nodes.Site, body: bytes) -> tuple[float, float]:
    """Seconds of the request, signed beforehand, and of the bare decoding."""
    request = nodes.signed(site, "POST", "/projects/study/learn", body)
    return timed(lambda: _send(site, request)), timed(lambda: _decode(body))


def _send(site: nodes.Site, request: bytes) -> None:
    host, _, port = site.server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as line:
        line.sendall(request)
        status, _ = received(line)
    assert status == 200, f"the server answered {status}"


def _decode(body: bytes) -> Any:
    """To rows of strings, and those to an array."""
    return np.array(msgspec.json.decode(body)["data"], float)
