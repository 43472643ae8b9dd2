"""The client against a real socket and the real edge; only the endpoints are stand-ins."""

from __future__ import annotations

import base64
import json
import logging
import math
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from flask import Blueprint, Flask, Response, request
from werkzeug.serving import make_server

from gramian import client as api
from gramian import errors as domain_errors
from gramian.client import Client, wire
from gramian.domain import frame, sealing
from gramian.domain.sealing import Scheme
from gramian.http import auth, errors
from gramian.http.envelope import respond
from gramian.http.request import current
from gramian.settings import Settings

SECRET = base64.b64encode(b"sixteen byte key").decode()
PASSWORD = "a password for one invitation"  # longer than 16, shorter than 32 bytes
INFO = {"fed_name": "f", "is_pulsing": True, "peersInfo": {"p": "x"}}


class OnceTokens:
    """Enough of a token store for signatures."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.lock = threading.Lock()

    def claim(self, key: str, value: bytes, *, now: float, expires_at: float) -> bytes | None:
        with self.lock:
            known = key in self.keys
            self.keys.add(key)
            return value if known else None


@dataclass
class Server:
    """What arrived, as (method, path below the customer, query, body), and what to answer next."""

    url: str = ""
    calls: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    schemes: list[Scheme] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)

    def client(self, **options: Any) -> Client:
        return Client(self.url, "c1", SECRET, timeout_s=10, **options)

    def handle(self, cid: str, path: str) -> Response:
        call = current()
        sealed = call.body and not call.body.lstrip().startswith(b"{")
        body = call.opened_map() if sealed else json.loads(call.body or b"null")
        self.calls.append((call.method, f"/{path}", dict(call.parameters), body))
        self.headers = dict(request.headers)
        self.schemes.append(call.scheme)
        answer = self.answers.pop(0) if self.answers else respond
        if isinstance(answer, Exception):
            raise answer
        return answer()


@pytest.fixture
def server() -> Iterator[Server]:
    app, state = Flask("stand-in"), Server()
    blueprint = Blueprint("any", __name__, url_prefix="/symetry/rest/<cid>")
    blueprint.add_url_rule("/<path:path>", "any", state.handle, methods=["GET", "POST", "DELETE"])
    users = {"c1": SECRET}
    blueprint.before_request(auth.authenticator(users.get, OnceTokens(), time.time, Settings()))
    app.register_blueprint(blueprint)
    errors.register(app)
    http = make_server("127.0.0.1", 0, app, threaded=True)
    state.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


LIST = {"stringList": {"values": ["a", "b"]}}
FED, PROJECT = "/fedml/p1", "/projects/p1"


@pytest.mark.parametrize(
    ("method", "arguments", "sent", "values", "result"),
    [
        (
            "create_project",
            ("p1",),
            ("POST", "/projects", {"pid": "p1", "type": "cpu", "persist": "true"}, None),
            {},
            None,
        ),
        ("projects", (), ("GET", "/projects/list", {}, None), LIST, ["a", "b"]),
        ("projects", (), ("GET", "/projects/list", {}, None), {"stringList": ["a"]}, ["a"]),
        ("project_info", ("p1",), ("GET", f"{PROJECT}/info", {}, None), {"smlInfo": {"pid": "p1"}}, {"pid": "p1"}),
        ("delete_project", ("a+b@c",), ("DELETE", "/projects/a+b@c", {}, None), {}, None),
        (
            "create_federation",
            ("p1",),
            ("POST", "/fedml/create", {"pid": "p1"}, {"fed_name": "f", "fed_encrypt": True}),
            {},
            None,
        ),
        (
            "join",
            ("p1", {"fed_name": "f"}),
            ("POST", "/fedml/createJoin", {"pid": "p1"}, {"fed_name": "f", "x": "y"}),
            {},
            None,
        ),
        ("start_pulse", ("p1",), ("GET", f"{FED}/startPulse", {}, None), {}, None),
        ("stop_pulse", ("p1",), ("GET", f"{FED}/stopPulse", {}, None), {}, None),
        ("new_schedule", ("p1", "h3"), ("GET", f"{FED}/newSchedule", {"newschedule": "h3"}, None), {}, None),
        ("sync", ("p1",), ("GET", f"{FED}/fullSyncRequest", {}, None), {}, None),
        ("error_log", ("p1",), ("GET", f"{FED}/getErrorLog", {}, None), LIST, ["a", "b"]),
        ("clear_error_log", ("p1",), ("DELETE", f"{FED}/clearErrorLog", {}, None), {}, None),
        ("sync_log", ("p1",), ("GET", f"{FED}/getSyncLog", {}, None), LIST, ["a", "b"]),
        (
            "sync_stats",
            ("p1",),
            ("GET", f"{FED}/syncStats", {}, None),
            {"fedSyncStats": {"sndCount": 1}},
            {"sndCount": 1},
        ),
        ("jobs", (), ("GET", "/jobs", {}, None), {"jobinfoList": {"values": [{"jobId": 1}]}}, [{"jobId": 1}]),
        ("model", ("p1", "m1"), ("GET", f"{PROJECT}/models/m1", {}, None), {"modelInfo": {"info": {}}}, {"info": {}}),
        ("delete_model", ("p1", "m1"), ("DELETE", f"{PROJECT}/models/m1", {}, None), {}, None),
        (
            "predict",
            ("p1", "m1", ["a"], [[1.5], [None]]),
            (
                "POST",
                f"{PROJECT}/predict/m1",
                {},
                {"attributeNames": ["a"], "attributeTypes": ["C"], "data": [["1.5"], [""]]},
            ),
            {"KSVSMap": {"values": [{"res": "1"}, {"res": "2"}]}},
            [{"res": "1"}, {"res": "2"}],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_method_sends_contract_request_and_reads_answer(
    server: Server, method: str, arguments: tuple, sent: tuple, values: dict, result: Any
) -> None:
    """Verb, path, query and body of each, and the entity that comes back."""
    keys = {"create_federation": {"fed_name": "f", "fed_encrypt": True}, "join": {"x": "y"}}.get(method, {})
    server.answers = [lambda: respond(values=values)]
    assert getattr(server.client(), method)(*arguments, **keys) == result
    assert server.calls == [sent]


@pytest.mark.parametrize("method", ["learn", "forget"])
def test_rows_of_any_kind_arrive_as_the_same_numbers(server: Server, method: str) -> None:
    """Lists with gaps, and arrays: all digits, NaN and None as gaps."""
    rows = [[0.1 + 0.2, None, 1], [1e-300, "7.5", True], [-0.0, math.nan, 10**20]]
    matrix = np.array([[0.1 + 0.2, np.nan, 1], [1e-300, 7.5, 1], [-0.0, np.nan, 1e20]])
    for given in (rows, (tuple(row) for row in rows), matrix, matrix.tolist(), [list(row) for row in matrix]):
        getattr(server.client(), method)("p1", ["a", "b", "c"], "CCC", given)
        _, path, _, body = server.calls.pop()
        assert path == f"/projects/p1/{method}"
        np.testing.assert_array_equal(frame.decode(json.dumps(body).encode()).matrix(["a", "b", "c"]), matrix)
    assert "Idempotency-Key" not in server.headers


def test_inexact_and_infinite_cells_keep_every_digit(server: Server) -> None:
    """Bit for bit; what is not finite is left for the server to refuse."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2**64, 3000, dtype=np.uint64).view(np.float64)
    matrix = values[np.isfinite(values)][:2900].reshape(-1, 10)
    server.client().learn("p1", "abcdefghij", "C" * 10, matrix)
    body = server.calls.pop()[3]
    sent = np.array(body["data"], dtype=float)
    np.testing.assert_array_equal(sent.view(np.uint64), matrix.view(np.uint64))
    assert api.dataframe(["a", "b"], "CC", [[math.inf, 1.0], [1.0, -math.inf]])["data"] == [
        ["inf", "1.0"],
        ["1.0", "-inf"],
    ]


def test_frame_of_20_mb_is_written_in_seconds() -> None:
    """A million cells; a tenth of the rows with gaps, which take a slower way."""
    matrix = np.random.default_rng(0).normal(size=(50_000, 20))
    matrix[::10, 3] = np.nan
    started = time.process_time()
    frame_ = api.dataframe([f"x{i}" for i in range(20)], "C" * 20, matrix)
    seconds = time.process_time() - started
    assert len(json.dumps(frame_)) > 20 * 2**20
    assert seconds < 3, f"{seconds:.1f} s"


def test_any_endpoint_can_be_called_by_request(server: Server) -> None:
    """Also one without a method of its own."""
    server.answers = [lambda: respond(values={"string": "x"})]
    client = server.client()
    assert client.request("POST", "/projects/p1/explore", {"a": True}, body={"b": 1}).text("string") == "x"
    assert server.calls == [("POST", "/projects/p1/explore", {"a": "true"}, {"b": 1})]
    assert client.secret_key == SECRET


def test_learn_sends_idempotency_key(server: Server) -> None:
    """So that a retry after a lost answer adds nothing."""
    server.client().learn("p1", ["a"], ["C"], [[1]], idempotency_key="k1")
    assert server.headers["Idempotency-Key"] == "k1"


@pytest.mark.parametrize(("v2", "scheme"), [(True, Scheme.V2), (False, Scheme.V1)])
def test_sealed_calls_use_the_chosen_scheme(server: Server, v2: bool, scheme: Scheme) -> None:
    """Bodies, invitations and info, there and back."""
    client = server.client(v2=v2)
    server.answers = [
        respond,
        lambda: respond(values={"fedInfoEncrypted": current().seal_invitation({"fed_req_token": "t"}, PASSWORD)}),
        lambda: respond(values={"encryptedGroupInfo": current().seal_invitation({"fed_req_token": "t"}, PASSWORD)}),
        lambda: respond(values={"fedInfoEncrypted": current().seal_reply(INFO)}),
    ]
    client.create_federation("p1", fed_name="f")
    assert client.invite("p1", PASSWORD, "http://here:1") == {"fed_req_token": "t"}
    text = client.sealed_invitation("p1", PASSWORD, "http://here:1", lifetime_hours=0.5)
    assert text.startswith("gramian.v2p.") == v2
    assert Client.open_invitation(text, PASSWORD) == {"fed_req_token": "t"}
    assert client.federation_info("p1") == INFO
    assert server.schemes == [scheme] * 4
    assert server.calls[1][:2] == ("POST", "/fedml/p1/getInvitation")
    assert server.calls[1][3] == {"passwd": PASSWORD, "fed_rest_host": "http://here:1"}
    assert server.calls[2][3]["fed_token_lifetime_hours"] == 0.5


def test_v2_client_refuses_a_v1_answer(server: Server) -> None:
    """Nobody on the way can talk it down to the old cipher."""
    text = sealing.seal_v1(json.dumps(INFO).encode(), b"sixteen byte key")
    server.answers = [lambda: respond(values={"fedInfoEncrypted": text})] * 2
    assert server.client(v2=False).federation_info("p1") == INFO
    with pytest.raises(api.BadReply, match="cannot be opened"):
        server.client().federation_info("p1")


def test_open_invitation_wrong_password_is_bad_reply() -> None:
    """With the one text that says nothing more."""
    with pytest.raises(api.BadReply, match="cannot be opened"):
        Client.open_invitation("garbage", PASSWORD)
    with pytest.raises(api.BadReply, match="at most 32 bytes"):
        Client.open_invitation("garbage", "x" * 33)


@pytest.mark.parametrize(
    ("error", "kind", "status", "code"),
    [
        (domain_errors.InvalidRequest("say why"), api.BadRequest, 400, "BAD_REQUEST"),
        (domain_errors.Unauthorized("say why"), api.AuthenticationFailed, 401, "UNAUTHORIZED"),
        (domain_errors.NotFound("say why"), api.NotFoundError, 404, "NOT_FOUND"),
        (domain_errors.AlreadyExists("say why"), api.ConflictError, 409, "CONFLICT"),
        (domain_errors.TooLarge("say why"), api.BadRequest, 413, "REQUEST_ENTITY_TOO_LARGE"),
        (domain_errors.Unavailable("say why"), api.ServerError, 503, "SERVICE_UNAVAILABLE"),
    ],
)
def test_refusal_raises_its_kind_with_the_servers_text(
    server: Server, error: Exception, kind: type, status: int, code: str
) -> None:
    """Callers catch by class and show the text."""
    server.answers = [error]
    with pytest.raises(kind, match=r"^say why$") as caught:
        server.client().projects()
    assert (caught.value.http_status, caught.value.code, caught.value.text) == (status, code, "say why")
    assert type(caught.value) is kind


def test_wrong_key_is_authentication_failed(server: Server) -> None:
    """From the real edge."""
    with pytest.raises(api.AuthenticationFailed, match=r"^Invalid Signature$"):
        Client(server.url, "c1", "A" * 22 + "==").projects()
    with pytest.raises(api.AuthenticationFailed, match=r"^Invalid User$"):
        Client(server.url, "c2", SECRET).projects()


def test_clock_out_of_sync_is_bad_request(server: Server) -> None:
    """The server's text says what to repair."""
    with pytest.raises(api.BadRequest, match="update your server time"):
        server.client(clock_ns=lambda: 1_000_000_000_000).projects()


def test_requests_at_one_instant_are_all_different(server: Server) -> None:
    """A coarse clock, eight threads: no signature is used twice."""
    client, failures = server.client(clock_ns=lambda: time.time_ns() // 10**9 * 10**9), []

    def call() -> None:
        try:
            for _ in range(5):
                client.start_pulse("p1")
        except api.ClientError as error:
            failures.append(error)

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(server.calls) == 40


def test_build_waits_for_its_job(server: Server) -> None:
    """202 while it runs, 200 when it is done."""
    running = lambda: respond("ACCEPTED", "Job still running", {"jobinfo": {"jobId": 5, "current": 1}})  # noqa: E731
    server.answers = [
        lambda: respond("ACCEPTED", "Job Created", headers={"sym-job-id": "5"}),
        running,
        running,
        lambda: respond(text="Job is finished"),
    ]
    assert server.client().build("p1", "m1", "y", ["a", "b"]) == "5"
    context = {"targetAttributeNames": ["y"], "inputAttributeNames": ["a", "b"], "extraParameters": {}}
    assert server.calls[0] == ("POST", "/projects/p1/build", {"modelid": "m1", "algo": "mlr"}, context)
    assert [call[:2] for call in server.calls[1:]] == [("GET", "/jobs/5")] * 3


def test_build_without_waiting_returns_the_job(server: Server) -> None:
    """And the job can be asked for."""
    server.answers = [
        lambda: respond("ACCEPTED", "Job Created", headers={"sym-job-id": "5"}),
        lambda: respond("ACCEPTED", "Job still running", {"jobinfo": {"jobId": 5}}),
    ]
    client = server.client()
    job = client.job(client.build("p1", "m1", "y", wait=False))
    assert (job.id, job.is_done, job.values) == ("5", False, {"jobinfo": {"jobId": 5}})
    assert "inputAttributeNames" not in server.calls[0][3]


def test_job_failed_raises_its_reason(server: Server) -> None:
    """A failed job answers 400."""
    server.answers = [domain_errors.InvalidRequest("the matrix is singular")]
    with pytest.raises(api.BadRequest, match=r"^the matrix is singular$"):
        server.client().wait_for_job("5")


def test_wait_for_job_gives_up_in_time(server: Server) -> None:
    """The job goes on; only the waiting ends."""
    server.answers = [lambda: respond("ACCEPTED", "Job still running")] * 10
    with pytest.raises(api.StillRunning, match=r"job 5 is still running after 0\.1 s"):
        server.client().wait_for_job("5", timeout_s=0.1)


def test_sync_by_job_waits_for_it(server: Server) -> None:
    """Functions answer 202 after 20 seconds."""
    server.answers = [lambda: respond("ACCEPTED", headers={"sym-job-id": "9"}), respond]
    server.client().sync("p1")
    assert server.calls[1][1] == "/jobs/9"


def test_non_finite_values_arrive_as_none(server: Server) -> None:
    """The client asks for strict JSON."""
    server.answers = [lambda: respond(values={"fedSyncStats": {"x": math.inf}})]
    assert server.client().sync_stats("p1") == {"x": None}


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"statusCode":"OK","statusString":"OK","values":[1]}']
)
def test_answer_that_is_no_envelope_is_reported(server: Server, body: bytes) -> None:
    """A proxy's page, for example: with its status when that is an error."""
    server.answers = [lambda: Response(body, 200), lambda: Response(b"<html>private</html>", 502)]
    with pytest.raises(api.ClientError):
        server.client().projects()
    with pytest.raises(api.ServerError, match="HTTP status 502"):
        server.client().projects()


def test_redirect_is_not_followed(server: Server) -> None:
    """A signature is for one server."""
    server.answers = [lambda: Response(b"", 302, {"Location": f"{server.url}/elsewhere"})]
    with pytest.raises(api.ClientError):
        server.client().projects()
    assert len(server.calls) == 1


def test_answer_too_large_is_cut_off(server: Server, monkeypatch) -> None:
    """A server cannot fill the client's memory."""
    monkeypatch.setattr(wire, "MAX_REPLY_BYTES", 1000)
    server.answers = [lambda: respond(values={"string": "x" * 2000})]
    with pytest.raises(api.BadReply, match="larger than 1000"):
        server.client().projects()


def test_nobody_there_is_unreachable() -> None:
    """Refused connections and silence alike."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(api.Unreachable):
            Client(url, "c1", SECRET).projects()
        listener.listen()
        with pytest.raises(api.Unreachable, match="timed out"):
            Client(url, "c1", SECRET, timeout_s=0.1).projects()


def test_refusal_before_the_whole_body_is_read_arrives() -> None:
    """A server may answer 413 and close while a large body is still on its way."""

    def refuse(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            body = b'{"statusCode":"REQUEST_ENTITY_TOO_LARGE","statusString":"too much","values":{}}'
            head = f"HTTP/1.1 413 Too Large\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            connection.sendall(head.encode() + body)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=refuse, args=[listener])
        thread.start()
        client = Client(f"http://127.0.0.1:{listener.getsockname()[1]}", "c1", SECRET, timeout_s=10)
        with pytest.raises(api.BadRequest, match=r"^too much$"):
            client.learn("p1", ["a"], "X", [["x" * 10**7]])
        thread.join()


@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://h", "http://", "file:///etc"])
def test_client_malformed_url_is_value_error(url: str) -> None:
    """Before anything is sent."""
    with pytest.raises(ValueError, match="url must look like"):
        Client(url, "c1", SECRET)


def test_no_secret_in_logs_or_errors(server: Server, caplog) -> None:
    """Neither the key nor a password."""
    caplog.set_level(logging.DEBUG)
    server.answers = [domain_errors.InvalidRequest("no")]
    client = server.client()
    with pytest.raises(api.BadRequest) as caught:
        client.sealed_invitation("p1", PASSWORD, "http://here:1")
    for text in (caplog.text, str(caught.value), repr(client)):
        assert SECRET not in text
        assert PASSWORD not in text
