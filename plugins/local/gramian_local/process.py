"""`gramian serve` as a child process: for the demo, and for tests that stop and kill servers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from gramian.client import Client
from gramian.errors import PluginError

_COMMAND = (sys.executable, "-m", "gramian_local")
_READY = re.compile(r"serving (http://\S+)")
STOP_S = 20.0


class ServerProcess:
    """One server on `home`; `options` are those of `gramian serve`. A context manager; may be started again."""

    def __init__(self, home: Path, *options: str, env: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.url = ""
        self.ready_line = ""
        self._options = options
        self._env = {**os.environ, **(env or {}), "PYTHONUNBUFFERED": "1"}
        self._process: subprocess.Popen[str] | None = None
        home.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def log_path(self) -> Path:
        return self.home / "serve.log"

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> None:
        """Start and wait until it serves. Raises PluginError with its last words if it does not."""
        with self.log_path.open("a") as log:
            self._process = subprocess.Popen(
                [*_COMMAND, "serve", "--home", str(self.home), *self._options],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self._env,
            )
        assert self._process.stdout is not None
        self.ready_line = self._process.stdout.readline()
        match = _READY.search(self.ready_line)
        if match is None:
            self.kill()
            last = self.log_path.read_text().strip().splitlines()[-1:]
            raise PluginError(f"gramian serve did not start: {' '.join(last) or 'it ended without a word'}")
        self.url = match[1]

    def create_user(self, cid: str) -> Client:
        """Add a user by the command line and return its client."""
        done = subprocess.run(
            [*_COMMAND, "user", "create", cid, "--home", str(self.home)], check=True, capture_output=True, text=True
        )
        return Client(self.url, cid, json.loads(done.stdout)["secretKey"])

    def stop(self) -> int:
        """Ask it to end, insist after STOP_S, and return its exit status."""
        assert self._process is not None, "not started"
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        finally:
            self._close()

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._close()

    def wait(self, timeout_s: float) -> int:
        """Wait until it ended by itself."""
        assert self._process is not None, "not started"
        return self._process.wait(timeout_s)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()
        self._close()

    def _close(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
