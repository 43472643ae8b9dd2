"""Disks that are full or damaged: the call gets a clear error, the log says what to do, other projects go on."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import psutil
import pytest

from gramian.client import Client, ServerError
from gramian.errors import PluginError
from gramian_local.process import ServerProcess

NAMES = [f"x{i}" for i in range(40)]


def rows(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(60, len(NAMES)))


@pytest.fixture
def server(tmp_path: Path):
    with ServerProcess(tmp_path / "home", "--port", "0", "--no-nats") as server:
        yield server


@pytest.fixture
def client(server: ServerProcess) -> Client:
    client = server.create_user("a")
    for pid in ("sick", "sound"):
        client.create_project(pid)
        client.learn(pid, NAMES, "C" * len(NAMES), rows(1))
    return client


def blob_files(home: Path) -> list[Path]:
    return [path for path in (home / "blobs").rglob("*") if path.is_file()]


@pytest.mark.parametrize("damage", ["truncate", "remove"])
def test_damaged_blob_fails_its_project_alone(server: ServerProcess, client: Client, damage: str) -> None:
    """503 at the call, the file's digest and a remedy in the log, the other project unharmed."""
    before = set(blob_files(server.home))
    client.learn("sick", NAMES, "C" * len(NAMES), rows(2))
    (blob,) = set(blob_files(server.home)) - before
    if damage == "truncate":
        blob.write_bytes(blob.read_bytes()[:100])
    else:
        blob.unlink()
    with pytest.raises(ServerError, match=r"try again|change too quickly"):
        client.build("sick", "m", "x0")
    client.build("sound", "m", "x0")
    if damage == "truncate":
        assert blob.name in server.log_path.read_text()
        assert "restore" in server.log_path.read_text().lower()


def test_full_disk_is_an_error_of_the_call_and_nothing_more(server: ServerProcess, client: Client) -> None:
    """No row is half there; with room again, everything goes on."""
    process = psutil.Process(server.pid)
    process.rlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    with pytest.raises(ServerError, match="try again"):
        client.learn("sick", NAMES, "C" * len(NAMES), rows(2))
    process.rlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert client.project_info("sick")["params"]["local_rows"] == "60"
    client.learn("sick", NAMES, "C" * len(NAMES), rows(2))
    assert client.project_info("sick")["params"]["local_rows"] == "120"
    client.build("sick", "m", "x0")


def test_damaged_database_is_named_with_the_remedy(server: ServerProcess, client: Client) -> None:
    """A server on it says what is broken instead of serving nonsense."""
    server.stop()
    database = server.home / "gramian.db"
    content = bytearray(database.read_bytes())
    content[0:100] = b"\xff" * 100
    database.write_bytes(bytes(content))
    with pytest.raises(PluginError, match=r"gramian\.db.*restore") as refused:
        server.start()
    assert "Traceback" not in str(refused.value)


def test_home_without_its_key_is_refused_with_the_remedy(server: ServerProcess, client: Client) -> None:
    """A fresh key could open nothing of what the lost one sealed."""
    server.stop()
    (server.home / "master.key").unlink()
    with pytest.raises(PluginError, match=r"master\.key is missing"):
        server.start()
