"""`gramian demo`: three organisations, one NATS, and the model of the pooled rows.

The organisations are three server processes on this machine, or with `--url` three projects of one user on a server
that runs already, such as a stack on AWS. Everything goes through the REST API, as any client would; the pooled rows
are fitted here only to compare.
"""

from __future__ import annotations

import json
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gramian.client import Client, ClientError
from gramian.errors import PluginError
from gramian_local.process import ServerProcess

if TYPE_CHECKING:
    from gramian.domain.statistics.moments import Array

SHARES = {"clinic": 0.09, "hospital": 0.27, "institute": 0.64}
TARGET = "progression"
PROJECT = "diabetes"
ROUNDS = 2
STREAM_BYTES = 64 * 2**20
"""Reserved by the NATS server; these snapshots have a few kilobytes."""
TOLERANCE = 1e-8
"""Of the larger of a prediction and the target's standard deviation: what statistics.md promises."""


@dataclass(frozen=True, slots=True)
class Organisation:
    """One node, its client, its project, and the rows that never leave it."""

    name: str
    client: Client
    url: str
    project: str
    rows: Array


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs already, and its user."""

    url: str
    cid: str
    secret_key: str


@dataclass(frozen=True, slots=True)
class Figures:
    """What the demo shows. `difference`: the largest to the pooled fit, relative as TOLERANCE says."""

    rows: dict[str, int]
    federated_rows: dict[str, int]
    digests: dict[str, str]
    models_equal: bool
    difference: float
    sync_s: float
    sync_bytes: int
    total_s: float

    def faults(self) -> list[str]:
        """What is not as promised, in words."""
        expected = sum(self.rows.values())
        checks = {
            "the nodes disagree about the federated statistics": len(set(self.digests.values())) == 1,
            "a node has no federated statistics": all(self.digests.values()),
            "federated rows are not the sum of all rows": set(self.federated_rows.values()) == {expected},
            "the nodes built different models": self.models_equal,
            "predictions differ from the pooled fit": self.difference <= TOLERANCE,
        }
        return [text for text, holds in checks.items() if not holds]


def run(*, encrypt: bool, as_json: bool, server: Server | None = None, nats_url: str | None = None) -> int:
    """Show the demo; 0 if everything holds. Without `server` and `nats_url` both are started here."""
    from rich.console import Console

    names, rows = _diabetes()
    started = time.monotonic()
    with (
        Console(stderr=True).status("starting what is needed") as progress,
        tempfile.TemporaryDirectory(prefix="gramian-demo-") as directory,
        ExitStack() as stack,
    ):
        meeting_place = nats_url or stack.enter_context(_nats(Path(directory) / "nats"))
        nodes = [
            stack.enter_context(_process(Path(directory), name, part) if server is None else _guest(server, name, part))
            for name, part in _split(rows).items()
        ]
        progress.update("creating the federation: one invitation per peer")
        _federate(nodes, meeting_place, encrypt=encrypt)
        progress.update("learning, pulsing and building everywhere")
        _learn_and_build(nodes, names)
        progress.update("comparing with the fit on the pooled rows")
        figures = _measure(nodes, names, rows, started)
        progress.update("stopping")
    _show(figures, as_json=as_json)
    for fault in figures.faults():
        print(f"gramian demo: {fault}", file=sys.stderr)
    return 1 if figures.faults() else 0


def _diabetes() -> tuple[list[str], Array]:
    try:
        from sklearn.datasets import load_diabetes
    except ImportError as error:
        raise PluginError("the demo's data come with scikit-learn: pip install 'gramian[demo]'") from error
    import numpy as np

    data = load_diabetes(scaled=False)
    return [*data.feature_names, TARGET], np.column_stack([data.data, data.target])


def _split(rows: Array) -> dict[str, Array]:
    bounds, start = {}, 0
    for name, share in SHARES.items():
        end = len(rows) if name == list(SHARES)[-1] else start + round(share * len(rows))
        bounds[name] = rows[start:end]
        start = end
    return bounds


@contextmanager
def _nats(directory: Path) -> Iterator[str]:
    from gramian_local.nats_server import NatsServer

    server = NatsServer.start(directory)
    try:
        yield server.url
    finally:
        server.stop()


@contextmanager
def _process(directory: Path, name: str, rows: Array) -> Iterator[Organisation]:
    """A `gramian serve` process with its own home and port, and a user of it."""
    with ServerProcess(directory / name, "--port", "0", "--no-nats") as server:
        yield Organisation(name, server.create_user(name), server.url, PROJECT, rows)


@contextmanager
def _guest(server: Server, name: str, rows: Array) -> Iterator[Organisation]:
    """A project of a running server's user, removed at the end."""
    client = Client(server.url, server.cid, server.secret_key)
    project = f"{PROJECT}-{name}-{secrets.token_hex(4)}"
    try:
        yield Organisation(name, client, server.url, project, rows)
    finally:
        with suppress(ClientError):
            client.delete_project(project)


def _federate(nodes: Sequence[Organisation], nats_url: str, *, encrypt: bool) -> None:
    admin, *others = nodes
    admin.client.create_federation(
        admin.project,
        fed_name="diabetes-study",
        sync_sched="m1",
        nats_hosts=nats_url,
        nats_stream_max_memory=STREAM_BYTES,
        fed_encrypt=encrypt,
    )
    for peer in others:
        password = secrets.token_urlsafe(12)
        peer.client.join(peer.project, admin.client.invite(admin.project, password, admin.url))


def _learn_and_build(nodes: Sequence[Organisation], names: Sequence[str]) -> None:
    for node in nodes:
        node.client.learn(node.project, names, "C" * len(names), node.rows)
        node.client.start_pulse(node.project)
    for _ in range(ROUNDS):
        for node in nodes:
            node.client.sync(node.project)
    for node in nodes:
        node.client.build(node.project, "model", TARGET)


def _measure(nodes: Sequence[Organisation], names: Sequence[str], rows: Array, started: float) -> Figures:
    import numpy as np

    params = {node.name: node.client.project_info(node.project)["params"] for node in nodes}
    tables = [node.client.model(node.project, "model")["extra"] for node in nodes]
    inputs = rows[:, :-1]
    pooled = _pooled_predictions(rows)
    scale = np.maximum(np.abs(pooled), rows[:, -1].std())
    worst = 0.0
    for node in nodes:
        predicted = node.client.predict(node.project, "model", list(names)[:-1], inputs)
        values = np.array([float(row["res"]) for row in predicted])
        worst = max(worst, float((np.abs(values - pooled) / scale).max()))
    sync_bytes, sync_s = _largest_sync(nodes)
    return Figures(
        rows={node.name: len(node.rows) for node in nodes},
        federated_rows={name: int(values["fed_rows"]) for name, values in params.items()},
        digests={name: values["fed_digest"] for name, values in params.items()},
        models_equal=all(table == tables[0] for table in tables),
        difference=worst,
        sync_s=sync_s,
        sync_bytes=sync_bytes,
        total_s=time.monotonic() - started,
    )


def _pooled_predictions(rows: Array) -> Array:
    """Centred least squares on all rows, in extended precision: what one machine would find."""
    import numpy as np

    wide = rows.astype(np.longdouble)
    centre = wide.mean(axis=0)
    design, target = (wide - centre)[:, :-1], (wide - centre)[:, -1]
    slopes = _solved(design.T @ design, design.T @ target)
    fitted: Array = (design @ slopes + centre[-1]).astype(np.float64)
    return fitted


def _solved(matrix: Any, right: Any) -> Any:
    """Gaussian elimination with pivoting: numpy's solvers know no extended precision."""
    import numpy as np

    a = np.column_stack([matrix, right])
    size = len(a)
    for k in range(size):
        pivot = k + int(np.abs(a[k:, k]).argmax())
        a[[k, pivot]] = a[[pivot, k]]
        a[k] /= a[k, k]
        others = np.arange(size) != k
        a[others] -= a[others, k, None] * a[k]
    return a[:, -1]


def _largest_sync(nodes: Sequence[Organisation]) -> tuple[int, float]:
    """(bytes, seconds) of the nodes' last sync that moved anything, of the node that moved most."""
    stats = [node.client.sync_stats(node.project) for node in nodes]
    return max((each["lastSyncBytes"], each["lastSyncSeconds"]) for each in stats)


def _show(figures: Figures, *, as_json: bool) -> None:
    if as_json:
        import dataclasses

        print(json.dumps(dataclasses.asdict(figures)))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title="One federation, three organisations, no row moved")
    for heading in ("node", "own rows", "federated rows", "digest of the federated statistics"):
        table.add_column(heading, justify="right" if "rows" in heading else "left")
    for name, rows in figures.rows.items():
        table.add_row(name, str(rows), str(figures.federated_rows[name]), figures.digests[name][:32])
    console = Console(width=100)
    console.print(table)
    lines = {
        "models equal byte for byte": "yes" if figures.models_equal else "NO",
        "largest difference to the fit on the pooled rows": f"{figures.difference:.1e} (relative)",
        "largest sync of one node": f"{figures.sync_bytes:,} bytes in {figures.sync_s * 1000:.0f} ms",
        "everything, servers started": f"{figures.total_s:.1f} s",
    }
    for what, figure in lines.items():
        console.print(f"{what:49} {figure}", highlight=False)
