"""Helpers for tests of the local plugins: other processes, and waiting without guessing."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest


@pytest.fixture
def database_path(tmp_path):
    return tmp_path / "gramian.db"


@pytest.fixture
def spawn():
    """Start `python -c script arguments...` with piped text streams; whatever still runs at the end is killed."""
    processes = []

    def start(script, *arguments):
        command = [sys.executable, "-c", script, *map(str, arguments)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def eventually():
    """Wait until a condition holds; fail after a generous time."""

    def wait(condition, timeout_s=10.0):
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "the condition never came true"
            time.sleep(0.005)

    return wait


@pytest.fixture
def file_size_limit():
    """Let writes beyond a size fail, as a full disk does, until the test ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size_bytes=soft):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))

    yield limit
    limit()


@pytest.fixture
def unprivileged_path():
    """A directory of a user whom permissions bind: tests that run as root become `nobody` meanwhile."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "home")
        path.mkdir()
        if os.geteuid() != 0:
            yield path
            path.chmod(0o700)
            return
        nobody = 65534
        Path(name).chmod(0o755)
        os.chown(path, nobody, nobody)
        os.seteuid(nobody)
        try:
            yield path
        finally:
            os.seteuid(0)
