"""Who gets through: the contract's table of causes, the readings of a target, and replays."""

from __future__ import annotations

import json
import logging
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from flask import Blueprint, Flask
from werkzeug.serving import make_server

from gramian.domain import signing
from gramian.errors import InvalidRequest
from gramian.http import auth
from gramian.http.auth import raw_target
from gramian.http.request import current
from gramian.settings import Settings

VECTORS = json.loads((Path(__file__).parent.parent / "vectors.json").read_text())["signature"]
THINGS = "/symetry/rest/c1/things"


def test_signed_request_gets_through(edge) -> None:
    """The answer is the envelope, and nobody may keep it."""
    answer = edge.send(query="a=1")
    assert (answer.status_code, answer.json["statusCode"]) == (200, "OK")
    assert list(answer.json) == ["statusCode", "statusString", "values"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json["values"] == {"parameters": {"a": "1"}, "body": "", "path": THINGS}


@pytest.mark.parametrize("query", ["", "a=1"])
@pytest.mark.parametrize("body", [b"", b'{"x":"\xc3\xa9"}'])
def test_signed_request_every_combination_gets_through(edge, body: bytes, query: str) -> None:
    """Body and query, each there or not."""
    answer = edge.send("POST", THINGS, query, body)
    assert answer.status_code == 200
    assert answer.json["values"]["body"] == body.decode()


@pytest.mark.parametrize(
    ("changes", "status", "code", "text"),
    [
        ({"Authorization": None}, 400, "BAD_REQUEST", "Authentication header is null"),
        ({"Authorization": "  "}, 400, "BAD_REQUEST", "Authentication header is null"),
        ({"Sym-date": None}, 400, "BAD_REQUEST", "sym-date header is null"),
        ({"Sym-date": "yesterday"}, 400, "BAD_REQUEST", "Invalid Date Format"),
        (
            {"Sym-date": "2014-07-31 08:01:07;1245"},
            400,
            "BAD_REQUEST",
            "Please update your server time, it is likely out of sync with UTC",
        ),
        ({"Content-MD5": "bPXTb+OmmWaRw/5xwdpfyw=="}, 400, "BAD_REQUEST", "Md5 do not match"),
        ({"Authorization": "A" * 43 + "="}, 401, "UNAUTHORIZED", "Invalid Signature"),
        ({"Authorization": "HMAC é"}, 401, "UNAUTHORIZED", "Invalid Signature"),
        ({"Customer-ID": "c2"}, 400, "BAD_REQUEST", "the Customer-ID header and the path name different customers"),
    ],
)
def test_wrong_header_gets_contract_text(edge, changes: dict, status: int, code: str, text: str) -> None:
    """Section 1.3, word by word."""
    answer = edge.send("POST", body=b"{}", **changes)
    assert (answer.status_code, answer.json["statusCode"], answer.json["statusString"]) == (status, code, text)


def test_unknown_user_is_invalid_user(edge) -> None:
    """Also for ids that cannot exist, and also with the key that unknown users are checked against."""
    for cid in ("c9", "c%20", "%00", "x" * 500):
        path = f"/symetry/rest/{cid}/things"
        headers = edge.headers("GET", path, cid="c9", secret="A" * 22 + "==")
        answer = edge.send("GET", path, headers={**headers, "Customer-ID": None})
        assert (answer.status_code, answer.json["statusString"]) == (401, "Invalid User")


def test_other_users_key_is_invalid_signature(edge) -> None:
    """c2 cannot sign for c1."""
    answer = edge.send(headers=edge.headers(secret="YW5vdGhlciAxNmIga2V5IQ=="))
    assert (answer.status_code, answer.json["statusString"]) == (401, "Invalid Signature")


def test_checks_come_in_the_recommended_order(edge) -> None:
    """Header presence, date format, window, user, MD5, signature: each fault hides the ones after it."""
    path, faults = "/symetry/rest/c9/things", {}
    good = edge.headers("POST", path, "", b"{}", cid="c9")
    steps = [
        ({"Authorization": "wrong"}, "Invalid Signature"),
        ({"Content-MD5": "wrong"}, "Md5 do not match"),
        ({"cid": "c9"}, "Invalid User"),
        ({"Sym-date": "2014-07-31 08:01:07"}, "Please update"),
        ({"Sym-date": "never"}, "Invalid Date Format"),
        ({"Sym-date": None}, "sym-date header is null"),
        ({"Authorization": None}, "Authentication header is null"),
    ]
    for fault, text in steps:
        faults |= fault
        cid = faults.get("cid", "c1")
        headers = {**good, **{name: value for name, value in faults.items() if name != "cid"}, "Customer-ID": cid}
        answer = edge.send("POST", f"/symetry/rest/{cid}/things", body=b"{}", headers=headers)
        assert answer.json["statusString"].startswith(text)


@pytest.mark.parametrize("sent", [None, "", "correct"])
def test_content_md5_absent_empty_or_right_gets_through(edge, sent: str | None) -> None:
    """It is checked if sent, and computed for the string to sign."""
    md5 = signing.content_md5(b"{}") if sent == "correct" else sent
    assert edge.send("POST", body=b"{}", **{"Content-MD5": md5}).status_code == 200


def test_content_md5_without_body_is_that_of_nothing(edge) -> None:
    """Some clients compute it from the empty body."""
    assert edge.send(**{"Content-MD5": signing.content_md5(b"")}).status_code == 200
    assert edge.send(**{"Content-MD5": signing.content_md5(b"{}")}).json["statusString"] == "Md5 do not match"


@pytest.mark.parametrize(("age_s", "status"), [(0, 200), (300, 200), (301, 400), (-60, 200), (-61, 400)])
def test_window_edges(edge, age_s: int, status: int) -> None:
    """5 minutes back, 1 minute ahead, inclusive to the second."""
    edge.now_s = 1_800_000_000
    date = signing.format_sym_date((1_800_000_000 - age_s) * 1_000_000_000)
    assert edge.send(headers=edge.headers(date=date)).status_code == status


def test_unauthorized_body_has_contract_shape(edge) -> None:
    """Section 9.7: the server's own string, SECRETKEY, line breaks as two characters, escaped once more in JSON."""
    answer = edge.send("GET", THINGS, "a=1", Authorization="wrong", **{"Sym-date": "2027-01-15 08:00:00"})
    expected = r"GET\\n\\nSECRETKEY\\n2027-01-15 08:00:00\\nc1\\n/symetry/rest/c1/things\\na=1\\n"
    assert answer.status_code == 401
    assert f'"values":{{"stringToSign":"{expected}"}}' in answer.text
    assert answer.json["statusString"] == "Invalid Signature"


def test_unauthorized_body_is_bounded(edge) -> None:
    """The echo of a large body is cut."""
    answer = edge.send("POST", body=b"\x00" * 9_000, Authorization="wrong")
    assert len(answer.json["values"]["stringToSign"]) == signing.ECHO_CHARS


@pytest.mark.parametrize(
    "resource", [THINGS, f"http://localhost{THINGS}", f"https://localhost{THINGS}"], ids=["path", "http", "https"]
)
def test_resource_as_path_or_full_url_verifies(edge, resource: str) -> None:
    """K01: both forms stand in the contract; TLS may end before this server."""
    assert edge.send(headers=edge.headers("GET", resource)).status_code == 200


@pytest.mark.parametrize("resource", [f"http://other{THINGS}", "/symetry/rest/c1/thing", f"{THINGS}/", "/things"])
def test_other_resource_is_invalid_signature(edge, resource: str) -> None:
    """Another host or path was signed."""
    assert edge.send(headers=edge.headers("GET", resource)).status_code == 401


def test_gateway_stage_before_root_may_be_signed_or_not(edge) -> None:
    """A stage is part of what the client calls, not of what is routed."""
    for resource in (f"/prod{THINGS}", THINGS):
        headers = edge.headers("GET", resource)
        environ = {"SCRIPT_NAME": "/prod", "REQUEST_URI": f"/prod{THINGS}"}
        answer = edge.app.test_client().get(THINGS, headers=headers, environ_overrides=environ)
        assert (answer.status_code, answer.json["values"]["path"]) == (200, THINGS)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['method']} {v['resource']} {v['query']}")
def test_contract_vector_gets_through(edge, vector: dict) -> None:
    """Each vector as its client would send it, at its time, with its authorization."""
    app = Flask("vectors")
    blueprint = Blueprint("vectors", __name__, url_prefix="/symetry/rest/<cid>")
    blueprint.add_url_rule("/<path:rest>", "any", lambda **_: current().body, methods=["GET", "POST", "DELETE"])
    now_s = signing.parse_sym_date(vector["sym_date"])
    users = {vector["customer_id"]: vector["secret_key"]}
    blueprint.before_request(auth.authenticator(users.get, edge.tokens, lambda: now_s, Settings()))
    app.register_blueprint(blueprint)
    url = urlsplit(vector["resource"])
    answer = app.test_client().open(
        url.path + (f"?{vector['query']}" if vector["query"] else ""),
        base_url=f"http://{url.netloc or 'charm:8080'}",
        method=vector["method"],
        data=vector["body"],
        headers={
            "Authorization": vector["authorization"],
            "Sym-date": vector["sym_date"],
            "Content-MD5": vector["content_md5"],
            "Customer-ID": vector["customer_id"],
        },
    )
    assert (answer.status_code, answer.text) == (200, vector["body"] or "")


def test_query_signed_raw_is_unescaped_once(edge) -> None:
    """As its sender meant it."""
    answer = edge.send(query="a=x%20y%2526z&B=%C3%A9+1")
    assert answer.json["values"]["parameters"] == {"a": "x y%26z", "b": "é+1"}


def test_query_signed_decoded_is_taken_as_it_stands(edge) -> None:
    """The Rust client signs before its HTTP library escapes."""
    headers = edge.headers("GET", THINGS, "a=x y&b=é+1")
    answer = edge.send(query="a=x%20y&b=%C3%A9+1", headers=headers)
    assert answer.json["values"]["parameters"] == {"a": "x y", "b": "é+1"}


def test_query_escaped_once_more_than_signed_is_refused(edge) -> None:
    """Otherwise somebody on the way could turn `%26` inside a signed value into those three characters."""
    headers = edge.headers("GET", THINGS, "a=x%26y")
    assert edge.send(query="a=x%2526y", headers=headers).status_code == 401
    assert edge.send(query="a%3Dx%2526y", headers=headers).status_code == 401
    assert edge.send(query="a=x%26y", headers=headers).json["values"]["parameters"] == {"a": "x&y"}


@pytest.mark.parametrize(
    "query", ["a=1&a=2", "a=1&A=1", "&".join(f"a{i}=1" for i in range(65)), "a=%FF", "a=" + "x" * 8200]
)
def test_query_ambiguous_or_excessive_is_refused(edge, query: str) -> None:
    """400, signed or not."""
    assert edge.send(query=query).status_code == 400


def test_same_signature_twice_is_refused_on_state_changing_views(edge) -> None:
    """Whatever the verb, and however the second one is spelled."""
    for method, path in (("POST", THINGS), ("GET", "/symetry/rest/c1/projects/p1/save")):
        headers = edge.headers(method, path, "a=x y")
        assert edge.send(method, path, "a=x%20y", headers=headers).status_code == 200
        for query in ("a=x%20y", "a%3Dx%20%79"):
            answer = edge.send(method, path, query, headers=headers)
            assert (answer.status_code, answer.json["statusCode"]) == (400, "BAD_REQUEST")
            assert "new sym-date" in answer.json["statusString"]


def test_same_signature_twice_is_fine_on_read_only_views(edge) -> None:
    """Polling clients may repeat what changes nothing."""
    headers = edge.headers()
    assert [edge.send(headers=headers).status_code for _ in range(2)] == [200, 200]
    assert not edge.tokens.held


def test_replayed_after_memory_is_out_of_window(edge) -> None:
    """The memory of 15 minutes outlives the date's 6."""
    headers = edge.headers("POST")
    assert edge.send("POST", headers=headers).status_code == 200
    ((_, expires_at),) = edge.tokens.held.values()
    edge.now_s = expires_at
    assert "server time" in edge.send("POST", headers=headers).json["statusString"]


def test_refused_signature_is_not_claimed(edge) -> None:
    """Nobody can use up a signature, or fill the store, without the key."""
    edge.send("POST", body=b"{}", Authorization="wrong")
    assert not edge.tokens.held


def test_token_store_down_is_503_and_nothing_runs(edge, caplog) -> None:
    """Who cannot tell a replay must not act; the store's words stay in the log."""
    edge.tokens.down = True
    edge.handlers["run"] = lambda: pytest.fail("ran")
    answer = edge.send("POST")
    assert (answer.status_code, answer.json["statusCode"]) == (503, "SERVICE_UNAVAILABLE")
    assert "secret/place" not in answer.text
    assert "secret/place" in caplog.text


def test_concurrent_replays_one_wins(edge) -> None:
    """Eight threads with one signature."""
    headers, statuses = edge.headers("POST"), []
    lock, claim = threading.Lock(), edge.tokens.claim

    def locked(*args: object, **more: object) -> object:
        with lock:
            return claim(*args, **more)

    edge.tokens.claim = locked
    threads = [
        threading.Thread(target=lambda: statuses.append(edge.send("POST", headers=headers).status_code))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [400] * 7


@pytest.mark.parametrize("path", [THINGS, "/symetry/rest/c1/projects/p1/save"])
def test_head_is_405(edge, path: str) -> None:
    """Flask would run the GET view, unasked."""
    assert edge.send("HEAD", path).status_code == 405


@pytest.mark.parametrize("path", [THINGS, "/symetry/rest/c1/open"])
def test_options_and_other_verbs_are_405(edge, path: str) -> None:
    """Flask would answer OPTIONS by itself, without authentication and without an envelope."""
    client = edge.app.test_client()
    for answer in (client.options(path), client.put(path)):
        assert (answer.status_code, answer.json["statusCode"]) == (405, "METHOD_NOT_ALLOWED")


def test_unsigned_view_runs_without_a_call(edge) -> None:
    """createPolicies authenticates by its own seal."""
    answer = edge.app.test_client().post("/symetry/rest/c1/open")
    assert (answer.status_code, answer.json["statusString"]) == (200, "open, False")


def test_body_over_budget_is_413_before_it_is_read(edge) -> None:
    """By the announced length; the text names the limit."""
    length = {"CONTENT_LENGTH": "999999999"}
    answer = edge.app.test_client().post(THINGS, headers=edge.headers("POST"), environ_overrides=length)
    assert (answer.status_code, answer.json["statusCode"]) == (413, "REQUEST_ENTITY_TOO_LARGE")
    assert str(edge.limit) in answer.json["statusString"]
    assert edge.send("POST", body=b"x" * edge.limit).status_code == 200
    assert edge.send("POST", body=b"x" * (edge.limit + 1)).status_code == 413


def test_body_in_chunks_over_budget_is_413_while_reading(edge) -> None:
    """Nothing announces its length."""
    server = make_server("127.0.0.1", 0, edge.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        lines = "".join(f"{name}: {value}\r\n" for name, value in edge.headers("POST").items())
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=5) as sender:
            sender.sendall(
                f"POST {THINGS} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{lines}\r\n".encode()
                + (b"400\r\n" + b"x" * 1024 + b"\r\n") * 10
            )
            assert sender.recv(12) == b"HTTP/1.1 413"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_body_shorter_than_announced_does_not_verify(edge) -> None:
    """The signature covers what was cut."""
    headers = {**edge.headers("POST", body=b"0123456789"), "Content-MD5": ""}
    for length, status in (("10", 200), ("5", 401), ("0", 401), ("20", 400)):
        length = {"CONTENT_LENGTH": length}
        answer = edge.app.test_client().post(THINGS, data=b"0123456789", headers=headers, environ_overrides=length)
        assert answer.status_code == status


@pytest.mark.parametrize(
    ("uri", "routed"),
    [
        ("/symetry/rest/c1/projects/p1", "/symetry/rest/c1/projects/p2"),
        ("/symetry/rest/c1/x", "/symetry/rest/c2/x"),
        ("/x/symetry/rest/c1", "/x/symetry/rest/c1"),
        ("/symetry/a/../b", "/symetry/b"),
    ],
)
def test_raw_target_other_than_routed_is_refused(uri: str, routed: str) -> None:
    """What was signed must be what runs."""
    with pytest.raises(InvalidRequest, match="two ways"):
        raw_target({"REQUEST_URI": uri, "PATH_INFO": routed, "QUERY_STRING": ""})


@pytest.mark.parametrize(
    ("environ", "target"),
    [
        (
            {"REQUEST_URI": "/symetry/a%20b?x=%20", "PATH_INFO": "/symetry/a b", "QUERY_STRING": "x=%20"},
            ("/symetry/a%20b", "x=%20"),
        ),
        ({"REQUEST_URI": "http://h:1/symetry?x", "PATH_INFO": "/symetry", "QUERY_STRING": "x"}, ("/symetry", "x")),
        ({"RAW_URI": "/symetry/%61", "PATH_INFO": "/symetry/a"}, ("/symetry/%61", "")),
        ({"PATH_INFO": "/symetry/a b/\xc3\xa9"}, ("/symetry/a%20b/%C3%A9", "")),
        ({"SCRIPT_NAME": "/prod", "PATH_INFO": "/symetry/rest/a@b"}, ("/prod/symetry/rest/a@b", "")),
    ],
)
def test_raw_target_of_server_environments(environ: dict, target: tuple) -> None:
    """Servers that give the raw target, and those that do not."""
    assert raw_target(environ) == target


def test_no_secret_in_answers_or_logs(edge, caplog) -> None:
    """Whatever goes wrong."""
    caplog.set_level(logging.DEBUG)
    edge.tokens.down = True
    texts = []
    for changes in ({}, {"Authorization": "x"}, {"Content-MD5": "x"}, {"Sym-date": "x"}, {"Customer-ID": "x"}):
        answer = edge.send("POST", body=b'{"a":1}', **changes)
        texts.append(f"{answer.text} {answer.headers}")
    for text in (*texts, caplog.text):
        assert edge.secret not in text
        assert "sixteen byte key" not in text
        assert '"a":1' not in caplog.text
