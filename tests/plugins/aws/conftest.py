"""AWS for the stores' tests: the emulator, AWS's own DynamoDB Local, and a line to them on which answers get lost."""

from __future__ import annotations

import fcntl
import http.client
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from gramian_aws import clients
from gramian_aws.dynamodb_table import Table

CREDENTIALS = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}
_numbers = itertools.count()
ROOT = Path(__file__).parents[3]
JARS = ROOT / ".venv-aws" / "dynamodb-local"
POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tests</groupId><artifactId>engine</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>software.amazon.dynamodb</groupId><artifactId>DynamoDBLocal</artifactId><version>3.3.1</version>
    </dependency>
  </dependencies>
</project>
"""
FETCH_S = 90
START_S = 60


@pytest.fixture(autouse=True)
def no_other_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches the real AWS by accident, nor keeps a client of another test's."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setattr(clients, "_clients", {})


@pytest.fixture(scope="session")
def make_client() -> Callable[..., Any]:
    """A client of an emulated service at `url`, as the stores make theirs."""
    return lambda service, url=None, **keys: clients.make(service, endpoint_url=url, **{**CREDENTIALS, **keys})


@pytest.fixture(scope="session")
def dynamodb(emulator: Any, make_client: Callable[..., Any]) -> Any:
    return make_client("dynamodb", emulator.url)


@pytest.fixture(scope="session")
def table_name(dynamodb: Any, make_table: Callable[[Any], str]) -> str:
    return make_table(dynamodb)


@pytest.fixture(scope="session", params=["emulator", pytest.param("dynamodb_local", marks=pytest.mark.slow)])
def table(request: pytest.FixtureRequest, make_client: Callable[..., Any], make_table: Callable[[Any], str]) -> Table:
    """On the emulator, and on AWS's own engine, whose transactions, tokens and refusals are the real ones."""
    if request.param == "emulator":
        return Table(request.getfixturevalue("table_name"), request.getfixturevalue("dynamodb"))
    client = make_client("dynamodb", request.getfixturevalue("dynamodb_local"))
    return Table(make_table(client), client)


@pytest.fixture(scope="session")
def s3(emulator: Any, make_client: Callable[..., Any]) -> Any:
    return make_client("s3", emulator.url)


@pytest.fixture(scope="session")
def bucket(s3: Any) -> str:
    s3.create_bucket(Bucket="gramian-blobs")
    return "gramian-blobs"


@pytest.fixture
def limited_client(emulator: Any, make_client: Callable[..., Any]) -> Callable[[str, list[str]], Any]:
    """A client of a user who may do what is listed, on anything; the emulator enforces it."""
    iam = make_client("iam", emulator.url)

    def make(service: str, actions: list[str]) -> Any:
        name = f"user-{next(_numbers)}"
        statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
        iam.create_user(UserName=name)
        iam.put_user_policy(
            UserName=name,
            PolicyName="allowed",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
        )
        key = iam.create_access_key(UserName=name)["AccessKey"]
        keys = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
        return make_client(service, emulator.url, **keys)

    return make


@pytest.fixture(scope="session")
def dynamodb_local_jars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fetched from Maven's repository once; a second test process waits for the first."""
    for program in ("mvn", "java", "javac"):
        if shutil.which(program) is None:
            pytest.skip(f"DynamoDB Local needs {program} (Maven and a JDK of version 17 or newer)")
    JARS.mkdir(parents=True, exist_ok=True)
    with (JARS / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (JARS / ".complete").exists():
            fetch(tmp_path_factory.mktemp("pom"))
    return JARS


def fetch(directory: Path) -> None:
    (directory / "pom.xml").write_text(POM)
    command = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={JARS}"]
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=FETCH_S, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("Maven's repository does not answer: no DynamoDB Local")
    if done.returncode:
        pytest.skip(f"Maven does not deliver DynamoDB Local: {done.stdout[-300:]}")
    (JARS / ".complete").touch()


@pytest.fixture(scope="session")
def dynamodb_local(dynamodb_local_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of AWS's own DynamoDB Local."""
    jars = dynamodb_local_jars
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    log = tmp_path_factory.mktemp("dynamodb-local") / "log"
    # So that it ends with this process, however that ends.
    with_parent = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    command = [
        *with_parent,
        "java",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Xmx512m",
        f"-Djava.library.path={jars}",
    ]
    program = ["-cp", f"{jars}/*", str(ROOT / "tests" / "aws" / "DynamoDbLocal.java")]
    options = ["-disableTelemetry", "-inMemory", "-port", str(port)]
    environment = {**os.environ, "DDB_LOCAL_TELEMETRY": "0"}
    with log.open("wb") as output:
        process = subprocess.Popen([*command, *program, *options], stdout=output, stderr=output, env=environment)
    try:
        wait_until_open(process, port, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def wait_until_open(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        else:
            return


@dataclass(frozen=True)
class Seen:
    """A request that came over the line. `operation`: as DynamoDB names it; for S3, the HTTP method."""

    operation: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass
class Line:
    """An HTTP server before the emulator. It passes everything on, but for what a test has told it."""

    upstream: str
    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    _plans: dict[str, list[Callable[[BaseHTTPRequestHandler, Callable[[], Any]], None]]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def lose(self, operation: str, times: int = 1, *, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Have the next requests carried out, then whatever happens `meanwhile`, and never answer."""

        def plan(handler: BaseHTTPRequestHandler, forward: Callable[[], Any]) -> None:
            forward()
            meanwhile()
            handler.close_connection = True

        self._plans.setdefault(operation, []).extend([plan] * times)

    def refuse(self, operation: str, status: int, body: Any, times: int = 1) -> None:
        """Answer the next requests in AWS's place."""

        def plan(handler: BaseHTTPRequestHandler, forward: Callable[[], Any]) -> None:
            answer(handler, status, body if isinstance(body, bytes) else json.dumps(body).encode(), {})

        self._plans.setdefault(operation, []).extend([plan] * times)

    def cut(self, operation: str, times: int = 1) -> None:
        """Break off the answers of the next requests in the middle."""

        def plan(handler: BaseHTTPRequestHandler, forward: Callable[[], Any]) -> None:
            status, headers, body = forward()
            answer(handler, status, body[: len(body) // 2], {**headers, "Content-Length": str(len(body))})
            handler.close_connection = True

        self._plans.setdefault(operation, []).extend([plan] * times)

    def count(self) -> Counter[str]:
        return Counter(seen.operation for seen in self.seen)

    def next_plan(self, seen: Seen) -> Callable[[BaseHTTPRequestHandler, Callable[[], Any]], None] | None:
        with self._lock:
            self.seen.append(seen)
            plans = self._plans.get(seen.operation)
            return plans.pop(0) if plans else None


class LineServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """That clients hang up is what lost answers lead to."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class LineHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    line: Line

    def pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        operation = self.headers.get("X-Amz-Target", self.command).rpartition(".")[2]
        headers = {name.lower(): value for name, value in self.headers.items()}
        plan = self.line.next_plan(Seen(operation, self.path, headers, body))

        def forward() -> Any:
            # The Host header is signed: it stays that of this server.
            upstream = http.client.HTTPConnection(self.line.upstream, timeout=60)
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect"):
                    upstream.putheader(name, value)
            upstream.endheaders(body)
            response = upstream.getresponse()
            answered = (response.status, dict(response.getheaders()), response.read())
            upstream.close()
            return answered

        if plan is not None:
            plan(self, forward)
        else:
            status, headers, content = forward()
            answer(self, status, content, headers)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on  # noqa: N815 (as http.server calls them)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


def answer(handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]) -> None:
    handler.send_response(status)
    length = {name: value for name, value in headers.items() if name.lower() == "content-length"}
    for name, value in headers.items():
        if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
            handler.send_header(name, value)
    handler.send_header("Content-Length", next(iter(length.values()), str(len(body))))
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def running_line(upstream: str) -> Iterator[Line]:
    line = Line(urlsplit(upstream).netloc)
    handler = type("Handler", (LineHandler,), {"line": line})
    with LineServer(("127.0.0.1", 0), handler) as server:
        line.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield line
        server.shutdown()
        thread.join()


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server that takes connections and never answers; clients that are made now soon give up."""
    monkeypatch.setattr(clients, "_READ_TIMEOUT_S", {})
    monkeypatch.setattr(clients, "_OTHER_READ_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def line(emulator: Any) -> Iterator[Line]:
    with running_line(emulator.url) as line:
        yield line


@pytest.fixture
def open_line() -> Iterator[Callable[[str], Line]]:
    """Opens lines to any URL; they end with the test."""
    with ExitStack() as stack:
        yield lambda upstream: stack.enter_context(running_line(upstream))
