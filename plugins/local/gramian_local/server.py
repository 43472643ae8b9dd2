"""`gramian serve`: every endpoint, the pulses and an embedded NATS in one process."""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gramian import __version__, plugins
from gramian.errors import PluginError
from gramian.node import Node
from gramian.ports import ResidentScheduler
from gramian.settings import Settings
from gramian.usecases import upkeep
from gramian_local import memory, nats_server, receiving
from gramian_local.home import Home
from gramian_local.node import opened
from gramian_local.resident import Resident

log = logging.getLogger(__name__)
LOOPBACK = "127.0.0.1"
UPKEEP_EVERY_S = 3600.0
DESCRIPTORS = 4096


def serve(host: str, port: int, path: Path | None, nats_port: int | None) -> None:
    """Serve until SIGINT or SIGTERM. `nats_port` None: no embedded NATS. Raises GramianError if it cannot start."""
    # Two BLAS threads on shared cores can be far slower than one, and requests run in parallel anyway.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    _allow_many_descriptors()
    memory.limit_heaps()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # It warns at every request that has to wait for a thread.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    settings = Settings.from_env(os.environ)
    plugins.check(settings)
    with opened(settings, path) as (node, home), _nats(home, nats_port) as nats:
        try:
            server = receiving.server_of(node, host, port)
        except OSError as error:
            raise PluginError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port") from error
        for handled in (signal.SIGINT, signal.SIGTERM):
            signal.signal(handled, lambda _signal, _frame: server.stop())
        with _background(node):
            print(f"gramian {__version__} serving http://{host}:{server.port} (home {home.root}; {nats})", flush=True)
            server.run()
        log.info("stopped")


def _allow_many_descriptors() -> None:
    """Connections, databases and large bodies need more than the customary 256 or 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextmanager
def _nats(home: Home, port: int | None) -> Iterator[str]:
    """Run an embedded nats-server, or find a usable one on its port; yields words for the user."""
    if port is None:
        yield "no embedded NATS"
        return
    found = nats_server.probe(LOOPBACK, port) if port else None
    if found is not None:
        if not found.has_jetstream:
            raise PluginError(f"the NATS on port {port} has no JetStream; choose another --nats-port or --no-nats")
        yield f"using the NATS {found.version} that runs on port {port}"
        return
    server = nats_server.NatsServer.start(home.nats, port=port)
    try:
        yield f"NATS {server.url}"
    finally:
        server.stop()


@contextmanager
def _background(node: Node) -> Iterator[None]:
    """Pulses on schedule and on nudges, and tidying up."""
    upkeep.at_start(node)
    over = threading.Event()
    tidier = threading.Thread(target=_tidy, args=(node, over), name="gramian-upkeep", daemon=True)
    tidier.start()
    threading.Thread(target=memory.give_back, args=(over,), name="gramian-memory", daemon=True).start()
    resident = Resident(node)
    resident.start()
    scheduler = node.scheduler
    if isinstance(scheduler, ResidentScheduler):
        scheduler.start(lambda cid, pid: _pulse(node, cid, pid))
    try:
        upkeep.resume(node)
        yield
    finally:
        over.set()
        if isinstance(scheduler, ResidentScheduler):
            scheduler.stop()
        resident.stop()
        tidier.join(10)
        upkeep.at_stop(node)


def _tidy(node: Node, over: threading.Event) -> None:
    while not over.is_set():
        try:
            upkeep.tidy(node)
        except Exception:
            log.exception("tidying up failed")
        over.wait(UPKEEP_EVERY_S)


def _pulse(node: Node, cid: str, pid: str) -> None:
    from gramian.usecases.federation import pulse

    pulse.scheduled(node, cid, pid)
