"""Whole nodes: over HTTP and a real NATS, in this process where nothing has to be killed.

Tests with `@pytest.mark.transports("nats", "s3")` run once over each of these; those named in `slow=` as slow tests.
"""

from __future__ import annotations

import asyncio
import base64
import csv
import json
import secrets
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import nats
import numpy as np
import pytest

from gramian.client import Client
from gramian.node import Node
from gramian.settings import Settings
from gramian.usecases import users
from gramian.usecases.federation import pulse
from gramian_local import receiving
from gramian_local.node import opened
from gramian_memory import space
from gramian_memory.space import Space
from gramian_memory.transport import MemoryLink
from gramian_nats.transport import NatsLink
from gramian_s3.transport import S3Link

TRANSPORTS = ("nats", "s3", "memory")
SMALL = {"nats_stream_max_memory": 16 * 2**20}
"""The server reserves what a federation may use: the default of 1 GiB would soon fill the tests' machine."""
DATA = Path(__file__).parents[2].parent / "shared" / "data"


@dataclass(frozen=True)
class Site:
    """One organisation: its node, and a client of its user."""

    name: str
    node: Node
    url: str
    client: Client


@contextmanager
def running(home: Path, name: str) -> Iterator[Site]:
    with opened(Settings(transports=TRANSPORTS), home) as (node, _):
        key = users.create(node, name)
        server = receiving.server_of(node, "127.0.0.1", 0)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.port}"
        node.scheduler.start(lambda cid, pid: pulse.scheduled(node, cid, pid))
        try:
            yield Site(name, node, url, Client(url, name, key))
        finally:
            node.scheduler.stop()
            server.stop()
            thread.join(10)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Makes sites that end with the test."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(running(tmp_path / name, name))


class Raw(ABC):
    """What a federation left in its transport, past all rules: whoever holds its credentials can do the same."""

    def __init__(self, fed_id: str) -> None:
        self.fed_id = fed_id

    @abstractmethod
    def roster(self) -> str:
        """The key of the roster."""

    @abstractmethod
    def head(self, peer_id: str) -> str: ...

    @abstractmethod
    def chunk(self, peer_id: str, blob_id: str, index: str = "0") -> str: ...

    @abstractmethod
    def write(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """(key, data) pairs, whatever is there; all are stored when this returns."""

    @abstractmethod
    def stored(self, key: str) -> bytes: ...

    @abstractmethod
    def entries(self) -> set[str]:
        """Keys of the roster and all heads."""

    @abstractmethod
    def chunks(self) -> set[str]:
        """Keys of the chunks that are there, freed ones left out."""

    @abstractmethod
    def shout(self, *nudges: bytes) -> None:
        """Have listeners hear this."""


class NatsRaw(Raw):
    def __init__(self, fed_id: str, url: str) -> None:
        super().__init__(fed_id)
        self._url = url

    def roster(self) -> str:
        return f"grm.{self.fed_id}.r"

    def head(self, peer_id: str) -> str:
        return f"grm.{self.fed_id}.h.{peer_id}"

    def chunk(self, peer_id: str, blob_id: str, index: str = "0") -> str:
        return f"grm.{self.fed_id}.b.{peer_id}.{blob_id}.{index}"

    def write(self, messages: Iterable[tuple[str, bytes]]) -> None:
        async def send(client: nats.NATS) -> None:
            *most, (subject, data) = messages
            for each in most:
                await client.publish(*each)
            assert "error" not in json.loads((await client.request(subject, data, timeout=30)).data)

        self._run(send)

    def stored(self, key: str) -> bytes:
        kind = "B" if key.startswith(f"grm.{self.fed_id}.b.") else "H"
        return self.ask(f"$JS.API.DIRECT.GET.GRM_{self.fed_id}_{kind}.{key}")

    def entries(self) -> set[str]:
        return self._subjects("H")

    def chunks(self) -> set[str]:
        return {subject for subject in self._subjects("B") if self.stored(subject)}

    def shout(self, *nudges: bytes) -> None:
        async def send(client: nats.NATS) -> None:
            for data in nudges:
                await client.publish(f"grm.{self.fed_id}.n", data)
            await client.flush()

        self._run(send)

    def ask(self, subject: str, data: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
        async def request(client: nats.NATS) -> bytes:
            return (await client.request(subject, data, timeout=5, headers=headers)).data

        return self._run(request)

    def streams(self) -> set[str]:
        return set(json.loads(self.ask("$JS.API.STREAM.NAMES"))["streams"] or ())

    def _subjects(self, kind: str) -> set[str]:
        answer = self.ask(f"$JS.API.STREAM.INFO.GRM_{self.fed_id}_{kind}", b'{"subjects_filter": ">"}')
        return set(json.loads(answer)["state"].get("subjects") or {})

    def _run(self, work: Callable[[nats.NATS], Awaitable[Any]]) -> Any:
        async def connected() -> Any:
            client = await nats.connect(self._url, allow_reconnect=False)
            try:
                return await work(client)
            finally:
                await client.close()

        return asyncio.run(connected())


class S3Raw(Raw):
    def __init__(self, fed_id: str, bucket: str, topic: str) -> None:
        super().__init__(fed_id)
        self._bucket, self._topic = bucket, topic
        self._s3, self._sns = boto3.client("s3"), boto3.client("sns")

    def roster(self) -> str:
        return f"grm/{self.fed_id}/roster"

    def head(self, peer_id: str) -> str:
        return f"grm/{self.fed_id}/heads/{peer_id}"

    def chunk(self, peer_id: str, blob_id: str, index: str = "0") -> str:
        return f"grm/{self.fed_id}/blobs/{peer_id}/{blob_id}/{index}"

    def write(self, messages: Iterable[tuple[str, bytes]]) -> None:
        for key, data in messages:
            self._s3.put_object(Bucket=self._bucket, Key=key, Body=data)

    def stored(self, key: str) -> bytes:
        return self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()

    def entries(self) -> set[str]:
        return {key for key in self._own() if not key.endswith("/place") and "/blobs/" not in key}

    def chunks(self) -> set[str]:
        return {key for key in self._own() if "/blobs/" in key}

    def objects(self) -> set[str]:
        """Of all federations."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket)
        return {found["Key"] for page in pages for found in page.get("Contents", ())}

    def shout(self, *nudges: bytes) -> None:
        about = {"fed_id": {"DataType": "String", "StringValue": self.fed_id}}
        for data in nudges:
            text = base64.b64encode(data).decode() or "="
            self._sns.publish(TopicArn=self._topic, Message=text, MessageAttributes=about)

    def _own(self) -> set[str]:
        return {key for key in self.objects() if key.startswith(f"grm/{self.fed_id}/")}


class MemoryRaw(Raw):
    def __init__(self, fed_id: str, space: Space) -> None:
        super().__init__(fed_id)
        self._space = space

    def roster(self) -> str:
        return "roster"

    def head(self, peer_id: str) -> str:
        return f"heads/{peer_id}"

    def chunk(self, peer_id: str, blob_id: str, index: str = "0") -> str:
        return f"blobs/{peer_id}/{blob_id}/{index}"

    def write(self, messages: Iterable[tuple[str, bytes]]) -> None:
        for key, data in messages:
            if key.startswith("blobs/"):
                _, peer_id, blob_id, index = key.split("/")
                self._space.put_chunk(self.fed_id, (peer_id, blob_id, int(index)), data)
            else:
                found = self._space.entries(self.fed_id).get(key)
                self._space.write(self.fed_id, key, data, found.revision if found else None)

    def stored(self, key: str) -> bytes:
        if key.startswith("blobs/"):
            _, peer_id, blob_id, index = key.split("/")
            return self._space.chunks(self.fed_id, peer_id, blob_id)[int(index)][0]
        return self._space.entries(self.fed_id)[key].data

    def entries(self) -> set[str]:
        return set(self._space.entries(self.fed_id))

    def chunks(self) -> set[str]:
        place = self._space._places[self.fed_id]
        return {f"blobs/{peer_id}/{blob_id}/{index}" for peer_id, blob_id, index in place.chunks}

    def shout(self, *nudges: bytes) -> None:
        for data in nudges:
            self._space.nudge(self.fed_id, data)


@dataclass(frozen=True)
class Meeting:
    """Where a federation meets. `own`: the keys that each node gives itself, besides those of an invitation; `link`:
    the class of the links, for what must go wrong in the middle; `everything`: what all federations left there."""

    name: str
    keys: dict[str, Any]
    own: dict[str, Any]
    link: type
    raw: Callable[[str], Any]
    everything: Callable[[], set[str]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("transports")
    if marker is not None and "meeting" in metafunc.fixturenames:
        slow = dict.fromkeys(marker.kwargs.get("slow", ()), pytest.mark.slow)
        names = [pytest.param(name, marks=slow.get(name, ())) for name in marker.args]
        metafunc.parametrize("meeting", names, indirect=True)


@pytest.fixture
def meeting(request: pytest.FixtureRequest) -> Meeting:
    """Over NATS, unless the test says otherwise."""
    makers = {"nats": meeting_in_nats, "s3": meeting_in_s3, "memory": meeting_in_memory}
    return makers[getattr(request, "param", "nats")](request)


def meeting_in_nats(request: pytest.FixtureRequest) -> Meeting:
    url = request.getfixturevalue("nats_server").url
    raw = partial(NatsRaw, url=url)
    return Meeting("nats", {"nats_hosts": url, **SMALL}, {}, NatsLink, raw, raw("").streams)


def meeting_in_s3(request: pytest.FixtureRequest) -> Meeting:
    """In a bucket of its own, with a topic for nudges."""
    for name, value in request.getfixturevalue("emulator").environment.items():
        request.getfixturevalue("monkeypatch").setenv(name, value)
    bucket = f"grm-{secrets.token_hex(6)}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    topic = boto3.client("sns").create_topic(Name=bucket)["TopicArn"]
    own = {"aws_access_key": "test", "aws_secret_key": "test"}
    keys = {"s3_bucket": bucket, "aws_region": "US_EAST_1", "aws_topic_arn": topic, **own}
    raw = partial(S3Raw, bucket=bucket, topic=topic)
    return Meeting("s3", keys, own, S3Link, raw, raw("").objects)


def meeting_in_memory(_: pytest.FixtureRequest) -> Meeting:
    name = secrets.token_hex(6)
    found = space.named(name)
    raw = partial(MemoryRaw, space=found)
    return Meeting("memory", {"memory_space": name}, {}, MemoryLink, raw, lambda: set(found._places))


@dataclass
class Federation:
    """Sites that share one project; the first is the admin."""

    pid: str
    meeting: Meeting
    sites: list[Site]

    @property
    def nats_url(self) -> str:
        return str(self.meeting.keys["nats_hosts"])

    @property
    def admin(self) -> Site:
        return self.sites[0]

    def join(self, peer: Site, **own: Any) -> None:
        password = secrets.token_hex(8)
        invitation = self.admin.client.invite(self.pid, password, self.admin.url)
        peer.client.join(self.pid, invitation, **{**self.meeting.own, **own})
        self.sites.append(peer)

    def sync(self, rounds: int = 2) -> None:
        """Two rounds over all nodes converge."""
        for _ in range(rounds):
            for each in self.sites:
                each.client.sync(self.pid)

    def params(self, key: str) -> list[str]:
        return [each.client.project_info(self.pid)["params"][key] for each in self.sites]

    def learn(self, names: Sequence[str], types: Sequence[str], parts: Sequence[np.ndarray]) -> None:
        for each, rows in zip(self.sites, parts, strict=True):
            each.client.learn(self.pid, names, types, rows)

    def assert_converged(self, rows: int) -> None:
        """Everyone has merged the same inputs to the same bits."""
        assert set(self.params("fed_rows")) == {str(rows)}
        assert len(set(self.params("fed_inputs"))) == 1
        digests = set(self.params("fed_digest"))
        assert len(digests) == 1
        assert digests != {""}


@pytest.fixture
def federate(site: Callable[..., Site], meeting: Meeting) -> Callable[..., Federation]:
    """Founds a federation of so many sites; keywords are keys of the create map."""

    def make(count: int = 3, pid: str = "study", **keys: Any) -> Federation:
        sites = [site(f"org{number}") for number in range(count)]
        wanted = {"fed_name": "study", "sync_sched": "m30", **meeting.keys, **keys}
        sites[0].client.create_federation(pid, **wanted)
        federation = Federation(pid, meeting, sites[:1])
        for peer in sites[1:]:
            federation.join(peer)
        return federation

    return make


@pytest.fixture
def shared_data() -> Callable[..., tuple[list[str], np.ndarray]]:
    """Reads a CSV of the shared data sets: names and rows."""

    def read(name: str) -> tuple[list[str], np.ndarray]:
        path = DATA / name
        if not path.exists():
            pytest.skip(f"the shared data set {name} is not on this machine")
        with path.open(newline="") as file:
            header, *rows = list(csv.reader(file))
        return header, np.array(rows, dtype=float)

    return read


@pytest.fixture
def pooled() -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Predictions for `inputs` by centred least squares on `rows` (target last), in extended precision."""

    def predict(rows: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        wide = rows.astype(np.longdouble)
        centre = wide.mean(axis=0)
        design, target = (wide - centre)[:, :-1], (wide - centre)[:, -1]
        slopes = solve(design.T @ design, design.T @ target)
        return ((inputs.astype(np.longdouble) - centre[:-1]) @ slopes + centre[-1]).astype(float)

    return predict


def solve(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Gauss-Jordan with pivoting, in whatever precision comes in."""
    a = np.column_stack([matrix, right])
    for k in range(len(a)):
        pivot = k + int(np.abs(a[k:, k]).argmax())
        a[[k, pivot]] = a[[pivot, k]]
        a[k] /= a[k, k]
        rest = np.arange(len(a)) != k
        a[rest] -= a[rest, k, None] * a[k]
    return a[:, -1]
