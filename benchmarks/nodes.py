"""Real servers to measure: `gramian serve` processes, federations of them, and raw signed requests to them."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gramian.client import Client
from gramian.domain import signing
from gramian_local.nats_server import NatsServer
from gramian_local.process import ServerProcess

T = TypeVar("T")
BLOB_MEMORY_BYTES = 512 * 2**20


@dataclass(frozen=True, slots=True)
class Site:
    """One organisation: its server process, and a client of its user."""

    name: str
    server: ServerProcess
    client: Client
    key: str


@dataclass(frozen=True, slots=True)
class Federation:
    """Sites that share a project; the first is the admin."""

    pid: str
    sites: Sequence[Site]

    def everyone(self, call: Callable[[Site], T]) -> list[T]:
        """Call for all sites at once."""
        with ThreadPoolExecutor(len(self.sites)) as pool:
            return list(pool.map(call, self.sites))

    def sync(self) -> None:
        """All sites at once: everyone publishes, then everyone takes in and merges."""
        for _ in range(2):
            self.everyone(lambda site: site.client.sync(self.pid))

    def assert_converged(self, rows: int) -> None:
        """Everyone has merged all rows to the same bits."""
        infos = self.everyone(lambda site: site.client.project_info(self.pid)["params"])
        found = {(info["fed_rows"], info["fed_digest"]) for info in infos}
        assert len(found) == 1, f"the nodes disagree: {found}"
        assert found.pop()[0] == str(rows), f"not all of the {rows} rows were merged"


@contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gramian-bench-") as directory:
        yield Path(directory)


@contextmanager
def serving(home: Path, name: str) -> Iterator[Site]:
    """A server process with one user and no NATS of its own."""
    with ServerProcess(home, "--port", "0", "--no-nats") as server:
        client = server.create_user(name)
        yield Site(name, server, client, client.secret_key)


@contextmanager
def federation(directory: Path, nats: NatsServer, count: int, pid: str = "study") -> Iterator[Federation]:
    """A federation of so many server processes, all joined, none with rows."""
    with ExitStack() as stack:
        sites = [stack.enter_context(serving(directory / f"org{i}", f"org{i}")) for i in range(count)]
        found(sites, nats.url, pid)
        yield Federation(pid, sites)


def found(sites: Sequence[Site], nats_url: str, pid: str = "study") -> None:
    """The first founds a federation, the others join it."""
    admin = sites[0]
    admin.client.create_federation(
        pid, fed_name=pid, sync_sched="d1", nats_hosts=nats_url, nats_stream_max_memory=BLOB_MEMORY_BYTES
    )
    for site in sites[1:]:
        password = secrets.token_hex(8)
        site.client.join(pid, admin.client.invite(pid, password, admin.server.url))


def signed(site: Site, method: str, path: str, body: bytes = b"", query: str = "") -> bytes:
    """A whole HTTP request, ready to be sent once; `path` is what follows the customer's id."""
    target = signing.Target(f"/symetry/rest/{site.name}{path}", query)
    request = signing.Signable.of(method, signing.format_sym_date(_unique_ns()), site.name, body)
    host = site.server.url.removeprefix("http://")
    lines = [
        f"{method} {target.resource}{'?' if query else ''}{query} HTTP/1.1",
        f"Host: {host}",
        f"Authorization: {signing.sign(site.key, request, target)}",
        f"Sym-date: {request.sym_date}",
        f"Content-MD5: {request.content_md5}",
        f"Customer-ID: {site.name}",
        f"Content-Length: {len(body)}",
        "Content-Type: application/json",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


_last_ns = 0


def _unique_ns() -> int:
    """Servers take each signature once."""
    global _last_ns
    _last_ns = max(time.time_ns(), _last_ns + 1)
    return _last_ns


def resident_bytes(pid: int) -> int:
    """Resident memory now (Linux)."""
    return _status_bytes(pid, "VmRSS")


def peak_bytes(pid: int) -> int:
    """Most resident memory since the start, or since `reset_peak` (Linux)."""
    return _status_bytes(pid, "VmHWM")


def reset_peak(pid: int) -> None:
    """From now on `peak_bytes` counts anew (Linux)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status_bytes(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def rows_of(seed: int, count: int, columns: int) -> Any:
    """(count, columns) numbers with three decimals; the last column depends on the first two."""
    import numpy as np

    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, columns))
    rows[:, -1] = rows[:, 0] - 2.0 * rows[:, 1] + 0.1 * rows[:, -1]
    return rows.round(3)
