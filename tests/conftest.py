"""Fixtures for the whole test tree."""

from __future__ import annotations

import http.client
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gramian import plugins
from gramian.together import Together

pytest.register_assert_rewrite("gramian.testing")
# Whatever a test forgets: nothing here ever talks to the real AWS.
os.environ |= {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """A real nats-server, shared: each test uses a federation of its own."""
    nats_server = pytest.importorskip("gramian_local.nats_server")
    with nats_server.NatsServer.start(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Makes a distribution that is installed until the test ends: a module `<name>`, if there is code for it, entry
    points of plugins, and the keys of federations' maps that they claim."""
    made: list[str] = []

    def installed(name: str, code: str, entries: Mapping[str, str], keys: Mapping[str, str] | None = None) -> None:
        root = tmp_path / f"site-{name}"
        metadata = root / f"{name}-1.5.dist-info"
        metadata.mkdir(parents=True)
        if code:
            (root / f"{name}.py").write_text(code)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
        groups = {plugins.GROUP: entries, plugins.KEYS_GROUP: keys or {}}
        sections = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in each.items()) for group, each in groups.items()]
        (metadata / "entry_points.txt").write_text("\n".join(sections))
        monkeypatch.syspath_prepend(root)
        made.append(name)
        plugins.published.cache_clear()

    yield installed
    for name in made:
        sys.modules.pop(name, None)
    monkeypatch.undo()
    plugins.published.cache_clear()


ROOT = Path(__file__).parents[1]
EMULATOR_START_S = 60.0


@dataclass(frozen=True)
class Emulator:
    """A running AWS emulator. `directory`: everything it writes, with the output of Batch jobs in `jobs/`."""

    url: str
    directory: Path

    @property
    def environment(self) -> dict[str, str]:
        """Variables that lead boto3 and the tools of AWS there, as the account's root, and nowhere else."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    """AWS on a loopback port: one for each test process that asks for it, up in a second (tests/aws/emulator.py)."""
    if not (ROOT / ".venv-aws" / "bin" / "python").exists():
        pytest.skip("no AWS emulator here: run `make .venv-aws/.ready`")
    with (
        tempfile.TemporaryDirectory(prefix="gramian-aws-", ignore_cleanup_errors=True) as name,
        running_emulator(Path(name)) as port,
    ):
        yield Emulator(f"http://127.0.0.1:{port}", Path(name))


@pytest.fixture(scope="session")
def make_table() -> Callable[[Any], str]:
    """Create a table such as the bundle's; its name."""

    def make(client: Any) -> str:
        name = f"gramian-{secrets.token_hex(6)}"
        client.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        )
        client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
        with suppress(client.exceptions.ClientError):  # not every engine knows it, and nothing relies on it
            client.update_time_to_live(
                TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": "ttl"}
            )
        return name

    return make


@contextmanager
def running_emulator(directory: Path) -> Iterator[int]:
    """Yields the port. Functions and jobs run with this installation's programs, and with none of its environment."""
    port = free_port()
    command = [ROOT / ".venv-aws" / "bin" / "python", ROOT / "tests" / "aws" / "emulator.py"]
    arguments = ["--port", str(port), "--directory", directory, "--with-parent", str(os.getpid())]
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *arguments],
            env={"PATH": programs, "HOME": str(directory)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until_up(process, port, directory / "log")
        yield port
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_until_up(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + EMULATOR_START_S
    while not answers(port):
        assert process.poll() is None, f"the AWS emulator ended: {log.read_text()[-2000:]}"
        assert time.monotonic() < deadline, f"the AWS emulator does not answer: {log.read_text()[-2000:]}"
        time.sleep(0.05)


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/_ministack/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@pytest.fixture
def at_once() -> Callable[..., Any]:
    """A context with futures of calls that all wait at a `Together`, in this order, until it ends."""

    @contextmanager
    def line_up(place: Together, *calls: Callable[[], Any]) -> Iterator[list[Future]]:
        begun, over = threading.Event(), threading.Event()
        with ThreadPoolExecutor(len(calls) + 1) as pool:
            first = pool.submit(place.do, None, lambda _: (begun.set(), over.wait(10)))
            assert begun.wait(10)
            futures = []
            for number, call in enumerate(calls, 1):
                futures.append(pool.submit(call))
                while place.waiting < number:
                    time.sleep(0.001)
            try:
                yield futures
            finally:
                over.set()
            first.result(10)

    return line_up
