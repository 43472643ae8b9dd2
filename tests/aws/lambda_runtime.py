"""Lambda's runtime API (2018-06-01) for one function that runs in a process of this machine.

The function's process asks for events and posts answers, exactly as on Lambda, by AWS's own client (awslambdaric).
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-lambda" / "bin" / "python"
"""Of an environment that has the runtime client and nothing else."""
API = "/2018-06-01/runtime/"
TIME_LIMIT_S = 60


@dataclass
class Answer:
    """What a run ended with; `failed` if it raised."""

    value: Any
    failed: bool


@dataclass
class Runtime:
    """One running function."""

    name: str
    _events: queue.Queue[tuple[str, bytes]] = field(default_factory=queue.Queue)
    _answers: dict[str, queue.Queue[Answer]] = field(default_factory=dict)
    init_error: str = ""

    def invoke(self, event: Any) -> Answer:
        """Raises AssertionError if the function cannot be imported or takes too long."""
        run_id = str(uuid.uuid4())
        waiting = self._answers[run_id] = queue.Queue()
        self._events.put((run_id, json.dumps(event).encode()))
        try:
            return waiting.get(timeout=TIME_LIMIT_S)
        except queue.Empty:
            raise AssertionError(f"{self.name} does not answer: {self.init_error or 'it takes too long'}") from None

    def next_event(self) -> tuple[str, bytes]:
        return self._events.get()

    def ended(self, run_id: str, answer: Answer) -> None:
        self._answers.pop(run_id).put(answer)


@contextmanager
def running(name: str, folder: Path, layers: Sequence[Path], variables: Mapping[str, str]) -> Iterator[Runtime]:
    """The function whose artifact lies in `folder`, with `layers` as below /opt, and an environment of `variables`."""
    runtime = Runtime(name)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(runtime))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    env = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": os.pathsep.join(str(layer / "python") for layer in layers),
        "PYTHONUNBUFFERED": "1",
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.server_port}",
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
        **variables,
    }
    process = subprocess.Popen(
        [PYTHON, "-m", "awslambdaric", "handler.handler"],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield runtime
    finally:
        process.kill()
        process.communicate()
        server.shutdown()
        server.server_close()


def _handler(runtime: Runtime) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 65536

        def log_message(self, *_: Any) -> None: ...

        def do_GET(self) -> None:
            assert self.path == f"{API}invocation/next"
            run_id, event = runtime.next_event()
            deadline_ms = int((time.time() + TIME_LIMIT_S) * 1000)
            arn = f"arn:aws:lambda:us-east-1:000000000000:function:{runtime.name}"
            self._send(200, event, {"Aws-Request-Id": run_id, "Deadline-Ms": deadline_ms, "Invoked-Function-Arn": arn})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            what = self.path.removeprefix(API).split("/")
            if what[0] == "init":
                runtime.init_error = body.decode()[:2000]
            else:
                runtime.ended(what[1], Answer(json.loads(body or b"null"), what[2] == "error"))
            self._send(202, b'{"status": "OK"}', {})

        def _send(self, status: int, body: bytes, about: Mapping[str, Any]) -> None:
            self.send_response(status)
            for header, value in about.items():
                self.send_header(f"Lambda-Runtime-{header}", str(value))
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
