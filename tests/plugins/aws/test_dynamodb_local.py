"""The stores on AWS's own DynamoDB Local, fetched from Maven's repository and kept in .venv-aws/dynamodb-local."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from gramian.errors import ConditionFailed
from gramian.ports import ABSENT, Delete, Put
from gramian.testing.state import StateStoreContract, race
from gramian.testing.tokens import TokenStoreContract
from gramian_aws.dynamodb import DynamoStateStore
from gramian_aws.dynamodb_table import Table
from gramian_aws.tokens import DynamoTokenStore

pytestmark = pytest.mark.slow

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


@pytest.fixture(scope="session")
def jars(tmp_path_factory):
    """Fetched once; a second test process waits for the first."""
    for program in ("mvn", "java", "javac"):
        if shutil.which(program) is None:
            pytest.skip(f"DynamoDB Local needs {program} (Maven and a JDK of version 17 or newer)")
    JARS.mkdir(parents=True, exist_ok=True)
    with (JARS / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (JARS / ".complete").exists():
            fetch(tmp_path_factory.mktemp("pom"))
    return JARS


def fetch(directory):
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
def url(jars, tmp_path_factory):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    log = tmp_path_factory.mktemp("dynamodb-local") / "log"
    command = ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx512m", f"-Djava.library.path={jars}"]
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


def wait_until_open(process, port, log):
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


@pytest.fixture(scope="session")
def engine(url, make_client):
    return make_client("dynamodb", url)


@pytest.fixture(scope="session")
def name(engine, make_table):
    return make_table(engine)


class TestState(StateStoreContract):
    @pytest.fixture
    def open_again(self, clock, engine, name):
        return lambda: DynamoStateStore(Table(name, engine), clock=clock)

    @pytest.fixture
    def store(self, open_again):
        return open_again()


class TestTokens(TokenStoreContract):
    threads = 64

    @pytest.fixture
    def open_again(self, engine, name):
        return lambda: DynamoTokenStore(Table(name, engine))

    @pytest.fixture
    def store(self, open_again):
        return open_again()


@pytest.fixture
def partition():
    return f"test-{uuid.uuid4().hex}"


def test_group_from_many_threads_has_one_winner(engine, name, partition):
    """Its conflicts are those of AWS: transactions that meet are cancelled, repeated, and one gets through."""
    store = DynamoStateStore(Table(name, engine))

    def write(number):
        try:
            store.write(Put(partition, "guard", b"%d" % number, ABSENT), Put(partition, f"{number:02}", b""))
        except ConditionFailed:
            return False
        return True

    won = race(64, write)
    assert won.count(True) == 1
    assert [key for key, _ in store.query(partition)] == [f"{won.index(True):02}", "guard"]


def test_lost_answers_are_repeated_without_harm(open_line, url, make_client, engine, name, partition):
    """AWS's engine keeps tokens, and tells a repeated put what stands there."""
    line = open_line(url)
    good = DynamoStateStore(Table(name, engine))
    lossy = DynamoStateStore(Table(name, make_client("dynamodb", line.url)))
    line.lose("PutItem", 2)
    lossy.write(Put(partition, "a", b"1", ABSENT))
    line.lose("TransactWriteItems", meanwhile=lambda: good.write(Put(partition, "b", b"theirs")))
    lossy.write(Put(partition, "b", b"1", ABSENT), Delete(partition, "a", good.get(partition, "a").version))
    assert [(key, item.value) for key, item in good.query(partition)] == [("b", b"theirs")]
    tokens = DynamoTokenStore(Table(name, make_client("dynamodb", line.url)))
    line.lose("PutItem", 2)
    now = time.time()
    assert tokens.claim(partition, b"mine", now=now, expires_at=now + 60) is None
    assert tokens.claim(partition, b"late", now=now, expires_at=now + 60) == b"mine"
