"""Hostile and broken input to a running server: an envelope, 4xx, words that help; never a secret, never a leak."""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import os
import random
import re
import resource
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from flask import Flask

from gramian.client import BadRequest, Client
from gramian.domain import sealing, signing
from gramian.domain.sealing import Scheme
from gramian_local import memory, process, wsgi
from gramian_local.process import ServerProcess

LIMIT = 4 * 2**20
PASSWORD = "hunter2-the-nats-password"
ROOT = "/symetry/rest/a"
CLOSE = b"Host: h\r\nConnection: close\r\n"
POST = b"POST /symetry/rest/a/projects HTTP/1.1\r\n" + CLOSE
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
REDEEM = "/symetry/rest/a/fedml/f/createPolicies"


@dataclass
class Answer:
    """What came back. `status` is 0 if the server closed without a word."""

    status: int
    head: bytes
    body: bytes

    @classmethod
    def of(cls, data: bytes) -> Answer:
        while data.startswith(b"HTTP/1.1 100 "):
            data = data.partition(b"\r\n\r\n")[2]
        head, _, body = data.partition(b"\r\n\r\n")
        return cls(int(head.split(b" ", 2)[1]) if head else 0, head, body)

    @property
    def text(self) -> str:
        return str(json.loads(self.body)["statusString"])

    def assert_refused(self, words: str = "") -> None:
        """The contract's envelope, 4xx, and words that help."""
        assert 400 <= self.status < 500, (self.head, self.body[:500])
        assert b"application/json" in self.head
        envelope = json.loads(self.body)
        assert set(envelope) == {"statusCode", "statusString", "values"}
        assert re.fullmatch("[A-Z_]+", envelope["statusCode"])
        assert len(envelope["statusString"]) >= len("No such job")
        assert re.search(words, envelope["statusString"]), envelope["statusString"]


@dataclass
class Attacked:
    """A server, its user, and everything it ever answered."""

    server: ServerProcess
    client: Client
    heard: list[bytes] = field(default_factory=list)
    dates: Iterator[int] = field(default_factory=lambda: iter(range(time.time_ns(), sys.maxsize)))

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", int(self.server.url.rpartition(":")[2])

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=20)

    def exchange(self, data: bytes, *, half_close: bool = False) -> Answer:
        """Send all, read until the server closes."""
        with self.connect() as connection:
            # A refusal may come, and the connection go, before everything is sent.
            with suppress(OSError):
                connection.sendall(data)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
            return Answer.of(self.read(connection))

    def read(self, connection: socket.socket) -> bytes:
        data = b""
        with suppress(ConnectionResetError):
            while piece := connection.recv(2**16):
                data += piece
        self.heard.append(data)
        return data

    def signed(
        self, method: str, path: str, query: str = "", body: bytes = b"", *, keep: bool = False, **headers: str
    ) -> bytes:
        """A request as the client would sign it, whatever is in it; `headers` with _ for - replace the right ones."""
        request = signing.Signable.of(method, signing.format_sym_date(next(self.dates)), "a", body)
        sent = {
            "Host": "h",
            "Authorization": signing.sign(self.client.secret_key, request, signing.Target(path, query)),
            "Sym-date": request.sym_date,
            "Content-MD5": request.content_md5,
            "Connection": "keep-alive" if keep else "close",
            "Content-Length": str(len(body)),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        target = f"{path}?{query}" if query else path
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    def sealed(self, path: str, value: Any, query: str = "pid=q") -> bytes:
        return self.signed("POST", ROOT + path, query, self.seal(path, json.dumps(value).encode()))

    def seal(self, path: str, content: bytes, key: bytes | None = None, scheme: Scheme = Scheme.V2) -> bytes:
        key = key or signing.decode_secret(self.client.secret_key)
        return sealing.seal_body(content, key, scheme, os.urandom, method="POST", cid="a", path=ROOT + path).encode()

    def measure(self) -> tuple[int, int]:
        """Resident bytes and open descriptors."""
        found = psutil.Process(self.server.pid)
        return found.memory_info().rss, found.num_fds()

    def assert_unharmed(self) -> None:
        """It serves, nothing that was sent has changed anything, and nothing secret was said or logged."""
        assert self.client.projects() == ["f", "p"]
        assert self.client.project_info("p")["params"]["local_rows"] == "6"
        log = self.server.log_path.read_text()
        assert "Traceback" not in log
        assert " ERROR " not in log
        key = self.client.secret_key
        for secret in (key, key.rstrip("="), signing.decode_secret(key).hex(), PASSWORD):
            assert secret not in log
            assert not any(secret.encode() in data for data in self.heard)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory, nats_server) -> Iterator[Attacked]:
    """A server with a project, a model and a federation; checked for harm once more at the end."""
    server = ServerProcess(
        tmp_path_factory.mktemp("bad") / "home",
        *("--port", "0", "--no-nats"),
        env={"GRAMIAN_BODY_LIMIT_BYTES": str(LIMIT)},
    )
    with server:
        client = server.create_user("a")
        client.create_project("p")
        client.learn("p", ["x", "y", "z"], "CCB", [[1, 2, 1], [2, 3, 0], [1, 5, 1], [7, 1, 0], [3, 3, 1], [4, 4, 0]])
        client.build("p", "m", "y")
        keys = {"nats_hosts": nats_server.url, "nats_stream_max_memory": 2**24}
        client.create_federation("f", fed_name="f", sync_sched="d1", **keys)
        found = Attacked(server, client)
        yield found
        found.assert_unharmed()


MALFORMED: dict[str, tuple[bytes, int, str]] = {
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "Start line"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 404, "no such endpoint"),
    "HTTP/1.0": (b"GET /symetry/rest/a/projects/list HTTP/1.0\r\n\r\n", 400, "Authentication header"),
    "lower case method": (b"get / HTTP/1.1\r\n\r\n", 400, "malformed HTTP"),
    "unknown method": (b"BREW /symetry/rest/a/projects/list HTTP/1.1\r\n" + CLOSE + b"\r\n", 405, "answers"),
    "OPTIONS": (b"OPTIONS " + REDEEM.encode() + b" HTTP/1.1\r\n" + CLOSE + b"\r\n", 405, "answers POST only"),
    "TRACE": (b"TRACE /symetry/rest/a/projects/list HTTP/1.1\r\n" + CLOSE + b"\r\n", 405, "answers"),
    "CONNECT": (b"CONNECT h:443 HTTP/1.1\r\n" + CLOSE + b"\r\n", 404, "no such endpoint"),
    "header without colon": (b"GET / HTTP/1.1\r\nHost h\r\n\r\n", 400, "Invalid header"),
    "header with NUL": (b"GET / HTTP/1.1\r\nHost: h\x00\r\n\r\n", 400, "Invalid header"),
    "bare CR": (b"GET / HTTP/1.1\r\nHost: h\rX: 1\r\n\r\n", 400, "malformed HTTP"),
    "huge header": (b"GET / HTTP/1.1\r\nX: " + b"a" * 2**20 + b"\r\n\r\n", 431, "headers have more than"),
    "many headers": (b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 2**15 + b"\r\n", 431, "headers have more than"),
    "long target": (b"GET /" + b"a" * 2**17 + b" HTTP/1.1\r\n\r\n", 431, "headers have more than"),
    "negative length": (POST + b"Content-Length: -5\r\n\r\n", 400, "Content-Length"),
    "length in words": (POST + b"Content-Length: five\r\n\r\n", 400, "Content-Length"),
    "superscript length": (POST + b"Content-Length: \xb2\r\n\r\n", 400, "Content-Length"),
    "two lengths": (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400, "Content-Length"),
    "length of 5000 digits": (POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 400, "Content-Length"),
    "length over the limit": (POST + b"Content-Length: %d\r\n\r\n" % (LIMIT + 1), 413, "more than 4194304 bytes"),
    "asking before too much": (
        POST + b"Content-Length: 999999999\r\nExpect: 100-continue\r\n\r\n",
        413,
        "more than 4194304 bytes",
    ),
    "unknown transfer encoding": (POST + b"Transfer-Encoding: gzip\r\n\r\n", 400, "Transfer-Encoding"),
    "chunk size in words": (CHUNKED + b"five\r\nhello\r\n0\r\n\r\n", 400, "[Cc]hunk"),
    "negative chunk size": (CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n", 400, "[Cc]hunk"),
    "chunk longer than said": (CHUNKED + b"5\r\nhello!\r\n0\r\n\r\n", 400, "[Cc]hunk"),
    "chunk line without end": (CHUNKED + b"0" * 2**16, 400, "[Cc]hunk"),
    "chunk extension without end": (CHUNKED + b"5;" + b"a" * 2**16, 400, "[Cc]hunk"),
    "trailers without end": (CHUNKED + b"0\r\n" + b"X: a\r\n" * 2**13, 400, "[Cc]hunk"),
    "chunked and a length": (
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "Authentication header",
    ),
    "address without end": (b"GET http://[::1/x HTTP/1.1\r\n" + CLOSE + b"\r\n", 400, "URI"),
    "target in Latin-1": (b"GET /symetry/rest/\xe9/projects HTTP/1.1\r\n" + CLOSE + b"\r\n", 400, "URI"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_http_is_refused_with_the_envelope(attacked: Attacked, name: str) -> None:
    """Also what never reaches the application."""
    data, status, words = MALFORMED[name]
    answer = attacked.exchange(data)
    answer.assert_refused(words)
    assert answer.status == status


TARGETS = [
    ("GET", "/symetry/rest/a/projects/p%2Finfo"),
    ("GET", "/symetry/rest/a%2Fprojects/list"),
    ("GET", "/symetry/rest/a/projects//info"),
    ("GET", "/symetry/rest/a//projects/list"),
    ("GET", "/symetry/rest//projects/list"),
    ("GET", "/symetry/rest/b/../a/projects/list"),
    ("GET", "/symetry/rest/a/projects/p/../p/info"),
    ("GET", "/symetry/rest/a/projects/%2e%2e/info"),
    ("GET", "/symetry/rest/a/projects/../info"),
    ("GET", "/symetry/rest/a/projects/..%2F..%2Fmaster.key/info"),
    ("GET", "/symetry/rest/a/projects/..%5C..%5Cmaster.key/info"),
    ("GET", "/symetry/rest/a/projects/%252e%252e/info"),
    ("GET", "/symetry/rest/a/projects/p%00/info"),
    ("GET", "/symetry/rest/a/projects/p%0D%0AX:%201/info"),
    ("GET", "/symetry/rest/a/projects/%C0%AE%C0%AE/info"),
    ("GET", "/symetry/rest/a/projects/%FF/info"),
    ("GET", "/symetry/rest/a/projects/%EF%BD%90/info"),  # a full-width p
    ("GET", "/symetry/rest/a/projects/p%E2%80%8B/info"),  # a space of no width
    ("GET", "/symetry/rest/a/projects/%E2%80%AEp/info"),  # right to left
    ("GET", "/symetry/rest/a/projects/p;x=1/info"),
    ("GET", "/symetry/rest/%61%00/projects/list"),
    ("GET", "/symetry/rest/A/projects/list"),
    ("GET", "http://other/symetry/rest/b/projects/list"),
    ("GET", "file:///symetry/rest/a/projects/list"),
    ("DELETE", "/symetry/rest/a/projects/p%20"),
    ("DELETE", "/symetry/rest/a/projects/" + "p" * 129),
    ("GET", "/symetry/rest/a/projects/p/models/..%2Fm"),
    ("GET", "/symetry/rest/a/jobs/-1"),
    ("GET", "/symetry/rest/a/jobs/" + "9" * 100),
    ("GET", "/symetry/rest/a/jobs/%D9%A1"),  # an Arabic 1
    ("GET", "/symetry/ws/learn"),
    ("GET", "/../../etc/passwd"),
]


@pytest.mark.parametrize(("method", "target"), TARGETS)
def test_path_tricks_reach_nothing_even_when_signed(attacked: Attacked, method: str, target: str) -> None:
    """Nothing is decoded twice, normalised, or taken for another id."""
    attacked.exchange(attacked.signed(method, target)).assert_refused()


@pytest.mark.parametrize(
    "query",
    [
        "pid=..",
        "pid=a%2Fb",
        "pid=%00",
        "pid=a%0Ab",
        "pid=%FF",
        "pid=%ED%A0%80",
        "pid=%zz",
        "pid=%EF%BC%A1",
        "pid=" + "a" * 129,
        "pid=q&pid=r",
        "pid=q&PID=r",
        "pid=",
        "pid",
        "",
        "pid=q&persist=perhaps",
        "pid=q&type=" + "x" * 4000,
        "a=" + "b" * 9000,
        "&".join(f"a{i}=1" for i in range(65)),
    ],
)
def test_impossible_queries_create_nothing(attacked: Attacked, query: str) -> None:
    """Ids, repetitions, lengths."""
    attacked.exchange(attacked.signed("POST", f"{ROOT}/projects", query)).assert_refused()


def frame(names: list[str], types: list[str], data: str | list[list[str]]) -> bytes:
    rows = data if isinstance(data, str) else json.dumps(data)
    return f'{{"attributeNames":{json.dumps(names)},"attributeTypes":{json.dumps(types)},"data":{rows}}}'.encode()


FRAMES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "malformed"),
    "null": (b"null", "not a DataFrame"),
    "a number": (b"1", "not a DataFrame"),
    "half of it": (frame(["x"], ["C"], [["1"]])[:-5], "malformed"),
    "random bytes": (random.Random(1).randbytes(5000), "UTF-8|malformed"),
    "gzip": (b"\x1f\x8b\x08\x00" + random.Random(2).randbytes(500), "UTF-8"),
    "UTF-16": (frame(["x"], ["C"], [["1"]]).decode().encode("utf-16"), "UTF-8"),
    "a million brackets": (b"[" * 10**6, "not a DataFrame|deeper"),
    "a million levels": (frame(["x"], ["C"], "[" * 10**6 + "]" * 10**6), "deeper than 64"),
    "a million levels aside": (b'{"more":' + b"[" * 10**6 + b"]" * 10**6 + frame(["x"], ["C"], [])[1:], "deeper|mal"),
    "no types": (b'{"attributeNames":["x"],"data":[["1"]]}', "attributeTypes"),
    "wrong JSON types": (b'{"attributeNames":{},"attributeTypes":[1],"data":"x"}', "not a DataFrame"),
    "names of numbers": (b'{"attributeNames":[1],"attributeTypes":["C"],"data":[["1"]]}', "not a DataFrame"),
    "rows in a map": (frame(["x"], ["C"], '{"1":["1"]}'), "list of rows"),
    "a map in a cell": (frame(["x"], ["C"], '[[{"a":1}]]'), "not a number"),
    "repeated keys": (
        b'{"attributeNames":["x"],"attributeNames":["x","y"],"attributeTypes":["C"],"data":[]}',
        "2 attributeNames",
    ),
    "repeated names": (frame(["x", "x"], ["C", "C"], [["1", "2"]]), "twice"),
    "names equal after NFC": (frame(["\u00e9", "e\u0301"], ["C", "C"], [["1", "2"]]), "twice"),
    "an empty name": (frame([""], ["C"], [["1"]]), "empty"),
    "a control character": (frame(["\x00"], ["C"], [["1"]]), "control character"),
    "half a surrogate": (b'{"attributeNames":["\\ud800"],"attributeTypes":["C"],"data":[]}', "surrogate"),
    "a long name": (frame(["x" * 257], ["C"], [["1"]]), "longer than 256"),
    "no attributes": (frame([], [], []), "1 to 10000 attributes"),
    "too many attributes": (frame([f"n{i}" for i in range(10001)], ["C"] * 10001, []), "10000 attributes"),
    "too long names together": (frame([f"n{i:0250}" for i in range(1500)], ["C"] * 1500, [["1"] * 1500]), "shorter"),
    "more types than names": (frame(["x"], ["C", "C"], [["1"]]), "attributeTypes"),
    "an unknown type": (frame(["x"], ["T"], [["1"]]), "knows C"),
    "a type of a megabyte": (frame(["x"], ["C" * 2**20], [["1"]]), "knows C"),
    "nothing but X": (frame(["x"], ["X"], [["1"]]), "nothing to use"),
    "another type than before": (frame(["x"], ["B"], [["1"]]), "has type C"),
    "a short row": (frame(["x", "y"], ["C", "C"], [["1", "2"], ["1"]]), "row 2 has 1 cells"),
    "a long row": (frame(["x"], ["C"], [["1", "2"]]), "row 1 has 2 cells"),
    "text in C": (frame(["x"], ["C"], [["tall"]]), "'tall' is not a number"),
    "a megabyte of text in C": (frame(["x"], ["C"], [["tall" * 2**18]]), "is not a number"),
    "2 in B": (frame(["z"], ["B"], [["2"]]), "neither 1 nor 0"),
    "Arabic digits": (frame(["x"], ["C"], [["\u0661\u0662"]]), "is not a number"),
    "underscores": (frame(["x"], ["C"], [["1_000"]]), "is not a number"),
    "hexadecimal": (frame(["x"], ["C"], [["0x1p3"]]), "is not a number"),
    "1e999": (frame(["x"], ["C"], [["1e999"]]), "not finite"),
    "bare 1e999": (frame(["x"], ["C"], "[[1e999]]"), "out of range|not finite"),
    "infinity": (frame(["x"], ["C"], [["inf"]]), "not finite|not a number"),
    "beyond the squares": (frame(["x"], ["C"], [["1e200"]]), "beyond"),
    "a million digits": (frame(["x"], ["C"], [["9" * 10**6]]), "not finite"),
    "a million bare digits": (frame(["x"], ["C"], f"[[{'9' * 10**6}]]"), "out of range|not finite"),
    "a million digits and a letter": (frame(["x"], ["C"], [["9" * 10**6 + "x"]]), "is not a number"),
}


ACTIONS = ["learn", "forget", "predict/m"]
TAKEN_AS_NUMBERS = [("predict/m", "another type than before"), ("predict/m", "2 in B")]


@pytest.mark.parametrize(
    ("action", "name"), [pair for pair in itertools.product(ACTIONS, FRAMES) if pair not in TAKEN_AS_NUMBERS]
)
def test_impossible_rows_are_refused_in_words(attacked: Attacked, action: str, name: str) -> None:
    """Quickly, too, and by every endpoint that takes rows."""
    body, words = FRAMES[name]
    if action != "learn":
        words = ""  # they know attributes and types before they look at cells
    started = time.monotonic()
    attacked.exchange(attacked.signed("POST", f"{ROOT}/projects/p/{action}", "", body)).assert_refused(words)
    assert time.monotonic() - started < 5


def test_attributes_of_a_project_stay_within_the_limit(attacked: Attacked) -> None:
    """Each frame alone is allowed; together they are too many."""
    attacked.client.create_project("wide")
    names = [f"n{i:0250}" for i in range(1500)]
    attacked.client.learn("wide", names[:750], "C" * 750, [[1.0] * 750])
    with pytest.raises(BadRequest, match="shorter names"):
        attacked.client.learn("wide", names[750:], "C" * 750, [[1.0] * 750])
    attacked.client.delete_project("wide")


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"[" * 10**6,
        b'{"targets":[1.5]}',
        b'{"targets":[-1]}',
        b'{"targets":["99999999999999999999"]}',
        b'{"targets":"1"}',
        b'{"targets":["\xc2\xb2"]}',
        b'{"targetAttributeNames":["nothing"]}',
        b'{"targetAttributeNames":["y","x"]}',
        b'{"targets":["0"],"inputAttributes":[null]}',
        b'{"targets":["0"],"extraParameters":{"a":{"b":1}}}',
        b"{}",
    ],
    ids=lambda body: body[:40].decode(),
)
def test_impossible_builds_make_no_job(attacked: Attacked, body: bytes) -> None:
    """A job that can be seen to fail is not begun."""
    before = len(attacked.client.jobs())
    attacked.exchange(attacked.signed("POST", f"{ROOT}/projects/p/build", "modelid=n&algo=mlr", body)).assert_refused()
    assert len(attacked.client.jobs()) == before


def test_sealed_bodies_that_do_not_open_get_one_text(attacked: Attacked) -> None:
    """Truncated, random, under another key, for another endpoint: no oracle."""
    good = attacked.seal("/fedml/create", b'{"fed_name":"x"}')
    rng = random.Random(3)
    altered = [
        b"not base64!",
        b"gramian.v2.",
        good[:-4],
        good[:20],
        good[:-5] + (b"A" if good[-5:-4] != b"A" else b"B") + good[-4:],  # not the last, which has bits to spare
        attacked.seal("/fedml/create", b"{}", key=b"another 16 bytes"),
        attacked.seal("/fedml/createJoin", b"{}"),
        attacked.seal("/fedml/create", b'{"fed_name":"x"}' * 2, scheme=Scheme.V1)[:-4],
        *(base64.b64encode(rng.randbytes(size)) for size in (1, 15, 1000, 1008)),
        *(b"gramian.v2." + base64.urlsafe_b64encode(rng.randbytes(size)) for size in (0, 12, 27, 1000)),
    ]
    texts = set()
    for body in altered:
        answer = attacked.exchange(attacked.signed("POST", f"{ROOT}/fedml/create", "pid=q", body))
        answer.assert_refused()
        texts.add(answer.text)
    assert len(texts) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"\xff\x00",
        b"[" * 10**5,
        b'{"fed_name":"a","fed_name":"b"}',
        b'{"fed_name":{"a":1}}',
        b'{"fed_name":"x","sync_sched":Infinity}',
        b'{"fed_name":"x","sync_sched":1e999}',
        b'{"fed_name":"\\ud800"}',
        b'{"fed_name":"\\u202e","sync_sched":"m5"}',
        b"null",
        b"",
    ],
    ids=lambda content: content[:30].decode(errors="replace"),
)
@pytest.mark.parametrize("path", ["/fedml/create", "/fedml/createJoin", "/fedml/f/getInvitation"])
def test_sealed_maps_that_are_none_are_refused(attacked: Attacked, path: str, content: bytes) -> None:
    """The right key does not make content right."""
    body = attacked.seal(path, content)
    attacked.exchange(attacked.signed("POST", ROOT + path, "pid=q", body)).assert_refused()


SCHEDULES = ["m0", "m-1", "m1.5", "m", "5", "m1 m1", "m1;d1", "d367", "d999999", "m" + "9" * 5000, "\u217f5", "m\u0661"]
SCHEDULES += ["s1", "m05", "0", "* * * * *", "m1\n", "m1\x00", "nan", " ", "true"]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda text: ascii(text)[:20])
def test_absurd_schedules_are_refused(attacked: Attacked, schedule: str) -> None:
    """By create and by newSchedule."""
    keys = {"fed_name": "x", "sync_sched": schedule, "nats_hosts": "nats://127.0.0.1:1"}
    if schedule.strip() == schedule:
        attacked.exchange(attacked.sealed("/fedml/create", keys)).assert_refused("sync_sched")
    with pytest.raises(BadRequest, match="newSchedule"):
        attacked.client.new_schedule("f", schedule)
    assert attacked.client.federation_info("f")["sync_sched"] == "d1"


def test_refusals_echo_no_credentials(attacked: Attacked) -> None:
    """Passwords in the wrong place, and for a NATS that is not there."""
    keys = {"fed_name": "x", "sync_sched": "m5", "nats_hosts": "nats://127.0.0.1:1", "nats_req_timeout": 1}
    for change in (
        {"nats_hosts": f"nats://u:{PASSWORD}@127.0.0.1:1"},
        {"nats_hosts": f"nats://{PASSWORD}@[::1"},
        {"nats_sec_user": "u", "nats_sec_passwd": PASSWORD},
        {"nats_sec_passwd": PASSWORD},
        {"nats_sec_token": PASSWORD},
        {"nats_sec_nkey_seed": f"SU{PASSWORD}"},
        {"nats_sec_user": "u", "nats_sec_passwd": PASSWORD, "fed_encrypt": "perhaps"},
    ):
        attacked.exchange(attacked.sealed("/fedml/create", {**keys, **change})).assert_refused()
    join = {**keys, "fed_secret_key": PASSWORD, "fed_req_token": PASSWORD, "fed_rest_url": "http://[::1", "fed_id": "0"}
    attacked.exchange(attacked.sealed("/fedml/createJoin", join)).assert_refused()
    passwd = {"passwd": PASSWORD + "x" * 2000, "fed_rest_host": "http://h"}
    attacked.exchange(attacked.sealed("/fedml/f/getInvitation", passwd)).assert_refused()
    attacked.assert_unharmed()


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"Authorization": ""}, "Authentication header is null"),
        ({"Sym_date": ""}, "sym-date header is null"),
        ({"Sym_date": "2014-13-45 99:99:99"}, "Invalid Date Format"),
        ({"Sym_date": "0000-00-00 00:00:00"}, "Invalid Date Format"),
        ({"Sym_date": "9999-12-31 23:59:59;9"}, "update your server time"),
        ({"Sym_date": "\u0662\u0660\u0662\u0666-01-01 00:00:00"}, "Invalid Date Format"),
        ({"Content_MD5": "AAAA"}, "Md5 do not match"),
        ({"Customer_ID": "b"}, "different customers"),
        ({"Authorization": "A" * 50_000}, "Invalid Signature"),
        ({"Authorization": "\u00e9"}, "Invalid Signature"),
        ({"Idempotency_Key": ""}, "Idempotency-Key"),
        ({"Idempotency_Key": "k" * 256}, "Idempotency-Key"),
        ({"Idempotency_Key": "\u00e9"}, "Idempotency-Key"),
    ],
    ids=lambda value: ascii(value)[:40] if isinstance(value, dict) else "",
)
def test_headers_that_cannot_be_are_refused(attacked: Attacked, headers: dict[str, str], words: str) -> None:
    """Those that the contract defines."""
    body = frame(["x"], ["C"], [["1"]])
    request = attacked.signed("POST", f"{ROOT}/projects/p/learn", "", body, **headers)
    attacked.exchange(request).assert_refused(words)


def test_thousands_of_unknown_tokens_and_signatures_wear_nothing_out(attacked: Attacked) -> None:
    """Each is refused, the honest user is not kept out, and the database hardly grows."""
    database = attacked.server.home / "gramian.db"
    before = sum(path.stat().st_size for path in database.parent.glob("gramian.db*"))
    tokens = [
        json.dumps({"v": 1, "tid": os.urandom(32).hex(), "sealed": base64.b64encode(os.urandom(64)).decode()}).encode()
        for _ in range(1000)
    ]
    redemptions = [(REDEEM, {"Content-Type": "application/json"}, token) for token in tokens]
    forged = [
        (
            f"/symetry/rest/{cid}/projects?pid=q",
            {
                "Authorization": base64.b64encode(os.urandom(32)).decode(),
                "Sym-date": signing.format_sym_date(time.time_ns()),
            },
            b"",
        )
        for cid in ("a", "nobody")
        for _ in range(500)
    ]
    host, port = attacked.address
    connection = http.client.HTTPConnection(host, port, timeout=20)
    texts = set()
    for path, headers, body in redemptions + forged:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        attacked.heard.append(data)
        assert answer.status in (400, 401)
        texts.add(json.loads(data)["statusString"])
    connection.close()
    assert len(texts) == 4, texts  # unknown, too many, no such user, wrong signature
    attacked.assert_unharmed()
    after = sum(path.stat().st_size for path in database.parent.glob("gramian.db*"))
    assert after - before < 2**20


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_bodies_over_the_limit_are_cut_off_and_not_kept(attacked: Attacked, framing: str) -> None:
    """The server stops reading near the limit, and what it has read is not in its memory."""
    head = CHUNKED if framing == "chunked" else POST + b"Content-Length: %d\r\n\r\n" % (16 * LIMIT)
    chunk = b"10000\r\n" + b"x" * 2**16 + b"\r\n"
    resident, _ = attacked.measure()
    sent, most = 0, resident
    with attacked.connect() as connection:
        connection.sendall(head)
        with suppress(ConnectionError):
            while sent < 16 * LIMIT and not select.select([connection], [], [], 0)[0]:
                connection.sendall(chunk)
                sent += len(chunk)
                most = max(most, attacked.measure()[0])
        answer = Answer.of(attacked.read(connection))
    answer.assert_refused("more than 4194304 bytes: send fewer rows")
    assert answer.status == 413
    assert sent < LIMIT + 12 * 2**20  # what the kernel's buffers hold comes on top
    assert most - resident < LIMIT


def test_client_learns_why_a_large_frame_was_refused(attacked: Attacked) -> None:
    """The answer arrives though the body was not read."""
    with pytest.raises(BadRequest, match="more than 4194304 bytes") as refused:
        attacked.client.learn("p", ["x"], "X", [["y" * (2 * LIMIT)]])
    assert refused.value.http_status == 413


def test_slow_connections_do_not_stop_honest_requests(attacked: Attacked) -> None:
    """200 that send a byte now and then, in the headers and in the body."""
    slow = [attacked.connect() for _ in range(200)]
    for number, connection in enumerate(slow):
        connection.sendall(b"POST / HTTP/1.1\r\nX" if number % 2 else POST + b"Content-Length: 1000\r\n\r\n")
    slowest = 0.0
    for _ in range(20):
        for connection in slow:
            connection.sendall(b"x")
        started = time.monotonic()
        attacked.client.projects()
        slowest = max(slowest, time.monotonic() - started)
    for connection in slow:
        connection.close()
    assert slowest < 2


def test_half_closed_connections_get_their_answer_or_an_end(attacked: Attacked) -> None:
    """A whole request is answered; half of one is not waited for."""
    whole = attacked.signed("GET", f"{ROOT}/projects/list")
    assert attacked.exchange(whole, half_close=True).status == 200
    started = time.monotonic()
    for part in (b"", b"GET", whole[:-2], POST + b"Content-Length: 10\r\n\r\nhalf", CHUNKED + b"5\r\nhel"):
        assert attacked.exchange(part, half_close=True).status in (0, 400)
    assert time.monotonic() - started < 5


def test_pipelined_requests_are_answered_in_order_and_end_at_the_first_broken_one(attacked: Attacked) -> None:
    """What follows a broken request is not read as another."""
    good = [attacked.signed("GET", f"{ROOT}/projects/list", keep=True) for _ in range(20)]
    refused = attacked.signed("GET", f"{ROOT}/projects/nothing/info", keep=True)
    broken = b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"
    delete = attacked.signed("DELETE", f"{ROOT}/projects/p")
    with attacked.connect() as connection:
        connection.sendall(b"".join([*good, refused, broken, delete]))
        answers = attacked.read(connection)
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", answers)]
    assert statuses == [200] * 20 + [400, 400]
    attacked.assert_unharmed()


def test_body_longer_than_said_is_no_second_request(attacked: Attacked) -> None:
    """The rest is taken for a request of its own and signed by nobody."""
    body = frame(["x"], ["C"], [["1"]])
    for length in (0, 1, len(body) - 1):
        request = attacked.signed("POST", f"{ROOT}/projects/p/learn", "", body, Content_Length=str(length))
        attacked.exchange(request).assert_refused()
    attacked.assert_unharmed()


def everything(attacked: Attacked) -> Iterator[bytes]:
    """Every corpus of this file once."""
    yield from (data for data, _, _ in MALFORMED.values())
    yield from (attacked.signed(method, target) for method, target in TARGETS)
    for body, _ in FRAMES.values():
        yield attacked.signed("POST", f"{ROOT}/projects/p/learn", "", body)
        yield attacked.signed("POST", f"{ROOT}/fedml/create", "pid=q", body)
        yield CHUNKED + b"%x\r\n" % len(body) + body[: len(body) // 2]


def test_memory_and_descriptors_are_given_back(attacked: Attacked) -> None:
    """Everything above, four times, leaves a server as it was after honest work: within a tenth."""
    honest = np.random.default_rng(0).normal(size=(500, 20)).tolist()

    def measured() -> tuple[int, int]:
        attacked.client.projects()
        time.sleep(0.5)
        return attacked.measure()

    attacked.client.create_project("honest")
    for number in range(40):
        attacked.client.learn("honest", [f"x{i}" for i in range(20)], "C" * 20, honest)
        if number % 10 == 0:
            attacked.client.build("honest", "m", "x0")
    attacked.client.delete_project("honest")
    resident, descriptors = measured()
    for _ in range(4):
        for data in everything(attacked):
            attacked.exchange(data, half_close=True)
    deadline = time.monotonic() + 3 * memory.EVERY_S
    while (after := measured())[0] >= 1.1 * resident and time.monotonic() < deadline:
        time.sleep(0.5)
    assert after[0] < 1.1 * resident
    assert after[1] <= 1.1 * descriptors
    attacked.assert_unharmed()


@pytest.fixture
def listening() -> Iterator[Callable[[], int]]:
    """Starts a server in this process and returns its port."""
    started: list[tuple[wsgi.Server, threading.Thread]] = []

    def start() -> int:
        server = wsgi.Server(Flask("empty"), "127.0.0.1", 0, body_limit_bytes=1000)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        started.append((server, thread))
        return server.port

    yield start
    for server, thread in started:
        server.stop()
        thread.join(10)


def test_descriptors_above_1023_do_not_end_the_server(listening: Callable[[], int]) -> None:
    """What select cannot watch."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 2000:
        pytest.skip("this shell allows fewer than 2000 descriptors")
    port = listening()
    taken = [os.dup(0) for _ in range(1100)]
    try:
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert connection.recv(100).startswith(b"HTTP/1.0 404")
    finally:
        for descriptor in taken:
            os.close(descriptor)


def test_more_connections_than_descriptors_neither_fill_the_log_nor_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server stops accepting before it runs out, and goes on when they are gone."""
    monkeypatch.setattr(
        process, "_COMMAND", ("bash", "-c", 'ulimit -n 300; exec "$0" "$@"', sys.executable, "-m", "gramian_local")
    )
    with ServerProcess(tmp_path / "home", "--port", "0", "--no-nats") as server:
        attacked = Attacked(server, server.create_user("a"))
        flood = [attacked.connect() for _ in range(400)]
        for connection in flood:
            connection.sendall(b"GET / HT")
        time.sleep(0.5)
        for connection in flood:
            connection.close()
        assert attacked.client.projects() == []
        log = server.log_path.read_text()
        assert "Traceback" not in log
        assert len(log) < 10_000
