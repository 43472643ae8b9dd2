"""Makes the events: `functions/NAME/event.json`, for tests and `sam local invoke NAME -e functions/NAME/event.json`.

`python functions/events.py` writes them all, always the same: signed by a made-up user at a fixed time. A node accepts
a request for five minutes only, so for one of your own: `python functions/events.py --now --cid CID --secret-key KEY`.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gramian.domain import sealing, signing

HERE = Path(__file__).parent
FIXED_TIME_S = 1_893_456_000
"""2030-01-01."""
CID = "clinic"
SECRET_KEY = base64.b64encode(bytes(range(16))).decode()
NATS_URL = "nats://127.0.0.1:4222"
STAGE = "prod"
HOST = "0123456789.execute-api.us-east-1.amazonaws.com"
PEER = "ab" * 16

ROWS = [[str(x), str(y), str(2 * x - y + 1)] for x, y in itertools.product(range(4), range(1, 6))]
FRAME = {"attributeNames": ["dose", "age", "response"], "attributeTypes": ["C", "C", "C"], "data": ROWS}


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks for. `path` follows the customer's id; `sealed` goes as the contract seals it."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    sealed: Mapping[str, Any] | None = None
    signed: bool = True


def requests(nats_url: str) -> dict[str, Request]:
    """By function, in an order in which each finds what it needs."""
    fed = "/fedml/study/"
    founded = {"fed_name": "study", "sync_sched": "m30", "nats_hosts": nats_url, "nats_stream_max_memory": "16777216"}
    account = {"aws_access_key": "AKIAIOSFODNN7EXAMPLE", "aws_secret_key": "made up", "aws_region": "us-east-1"}
    return {
        "get_openapi": Request("GET", "/openapi.json", signed=False),
        "refuse_unknown": Request("GET", "/nothing/here"),
        "create_project": Request("POST", "/projects", {"pid": "trial"}),
        "list_projects": Request("GET", "/projects/list"),
        "learn_rows": Request("POST", "/projects/trial/learn", body=FRAME),
        "forget_rows": Request("POST", "/projects/trial/forget", body={**FRAME, "data": ROWS[:1]}),
        "get_project": Request("GET", "/projects/trial/info"),
        "build_model": Request(
            "POST",
            "/projects/trial/build",
            {"modelid": "fit", "algo": "mlr"},
            body={"targetAttributeNames": ["response"], "inputAttributeNames": ["dose", "age"], "extraParameters": {}},
        ),
        "list_jobs": Request("GET", "/jobs"),
        "get_job": Request("GET", "/jobs/1"),
        "get_model": Request("GET", "/projects/trial/models/fit"),
        "predict_rows": Request(
            "POST",
            "/projects/trial/predict/fit",
            body={"attributeNames": ["dose", "age"], "attributeTypes": ["C", "C"], "data": [["1", "2"], ["3", "4"]]},
        ),
        "delete_model": Request("DELETE", "/projects/trial/models/fit"),
        "delete_job": Request("DELETE", "/jobs/1"),
        "create_upload": Request("POST", "/projects/trial/uploads", {"format": "csv", "size": "1000000"}),
        "learn_upload": Request("POST", f"/projects/trial/uploads/{PEER}/learn"),
        "delete_upload": Request("DELETE", f"/projects/trial/uploads/{PEER}"),
        "create_federation": Request("POST", "/fedml/create", {"pid": "study"}, sealed=founded),
        "invite_peer": Request("POST", f"{fed}getInvitation", sealed={"passwd": "a long password"}),
        "redeem_invitation": Request(
            "POST", f"{fed}createPolicies", body={"v": 1, "tid": "00" * 32, "sealed": "A" * 64}, signed=False
        ),
        "join_federation": Request("POST", "/fedml/createJoin", {"pid": "joined"}, sealed=_invitation(founded)),
        "get_federation": Request("GET", f"{fed}info", {"seal": "v2"}),
        "start_pulse": Request("GET", f"{fed}startPulse"),
        "sync_federation": Request("GET", f"{fed}fullSyncRequest"),
        "change_schedule": Request("GET", f"{fed}newSchedule", {"newSchedule": "h1"}),
        "change_transport": Request("POST", f"{fed}setTransport", sealed={"nats_req_timeout": "20"}),
        "allow_exploring": Request("GET", f"{fed}setExplorePeers", {"allowExplore": "true"}),
        "get_sync_log": Request("GET", f"{fed}getSyncLog"),
        "get_sync_stats": Request("GET", f"{fed}syncStats"),
        "get_error_log": Request("GET", f"{fed}getErrorLog"),
        "clear_error_log": Request("DELETE", f"{fed}clearErrorLog"),
        "evict_peer": Request("POST", f"{fed}evict", {"peer": PEER}),
        "get_aws_info": Request("POST", "/fedml/awsinfo", sealed=account),
        "get_project_aws_info": Request("POST", f"{fed}awsinfo", sealed=account),
        "leave_federation": Request("POST", f"{fed}leave"),
        "stop_pulse": Request("GET", f"{fed}stopPulse"),
        "delete_project": Request("DELETE", "/projects/study"),
    }


def background(cid: str) -> dict[str, Any]:
    """Of the functions that nobody calls: what starts them."""
    return {
        "run_job": {"cid": cid, "number": 1},
        "pulse": {"cid": cid, "pid": "study"},
        "tidy_up": {},
    }


def events(
    cid: str = CID, secret_key: str = SECRET_KEY, time_s: float = FIXED_TIME_S, nats_url: str = NATS_URL
) -> dict[str, Any]:
    """The event of each function. Equal arguments give equal events."""
    moments = itertools.count(int(time_s * 1_000_000_000))
    asked = requests(nats_url)
    web = {name: _event(request, cid, secret_key, next(moments)) for name, request in asked.items()}
    return web | background(cid)


def _event(request: Request, cid: str, secret_key: str, time_ns: int) -> dict[str, Any]:
    """As API Gateway hands it on: payload 2.0 of an HTTP API."""
    path = request.path if request.path == "/openapi.json" else f"/symetry/rest/{cid}{request.path}"
    query = "&".join(f"{quote(name, safe='')}={quote(text, safe='')}" for name, text in request.query.items())
    body = _body(request, cid, secret_key, path, time_ns)
    moment = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC)
    event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": f"/{STAGE}{path}",
        "rawQueryString": query,
        "headers": {"host": HOST, "x-forwarded-proto": "https", "x-forwarded-port": "443"},
        "requestContext": {
            "accountId": "000000000000",
            "apiId": HOST.partition(".")[0],
            "domainName": HOST,
            "http": {
                "method": request.method,
                "path": f"/{STAGE}{path}",
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": "gramian",
            },
            "requestId": hashlib.sha256(f"{time_ns}".encode()).hexdigest()[:16],
            "routeKey": "$default",
            "stage": STAGE,
            "time": f"{moment:%d/%b/%Y:%H:%M:%S} +0000",
            "timeEpoch": time_ns // 1_000_000,
        },
        "isBase64Encoded": False,
    }
    if request.signed:
        event["headers"] |= _signature(request.method, path, query, body, cid, secret_key, time_ns)
    if body:
        event["headers"] |= {"content-type": "application/json", "content-length": str(len(body))}
        event["body"] = body.decode()
    return event


def _body(request: Request, cid: str, secret_key: str, path: str, time_ns: int) -> bytes:
    if request.sealed is None:
        return b"" if request.body is None else json.dumps(request.body).encode()
    return sealing.seal_body(
        json.dumps(request.sealed).encode(),
        signing.decode_secret(secret_key),
        sealing.Scheme.V2,
        _repeatable(f"{secret_key} {time_ns}"),
        method=request.method,
        cid=cid,
        path=path,
    ).encode()


def _signature(
    method: str, path: str, query: str, body: bytes, cid: str, secret_key: str, time_ns: int
) -> dict[str, str]:
    signable = signing.Signable.of(method, signing.format_sym_date(time_ns), cid, body)
    signed = {
        "authorization": signing.sign(secret_key, signable, signing.Target(path, query)),
        "sym-date": signable.sym_date,
        "customer-id": cid,
    }
    return signed | ({"content-md5": signable.content_md5} if body else {})


def _invitation(founded: Mapping[str, str]) -> dict[str, str]:
    """One that nobody has made: its admin does not answer."""
    return {
        **founded,
        "fed_id": "cd" * 16,
        "fed_req_token": "FEDTOKEN" + "ef" * 16,
        "fed_secret_key": base64.b64encode(bytes(32)).decode(),
        "fed_rest_url": "http://127.0.0.1:9/symetry/rest/hospital/fedml/study/createPolicies",
    }


def _repeatable(seed: str) -> Callable[[int], bytes]:
    """In place of random bytes: nonces must not repeat under one key, and these differ by time."""

    def blocks() -> Iterator[bytes]:
        for number in itertools.count():
            yield hashlib.sha256(f"{seed} {number}".encode()).digest()

    stream = itertools.chain.from_iterable(blocks())
    return lambda count: bytes(itertools.islice(stream, count))


def text_of(event: Any) -> str:
    return json.dumps(event, indent=1) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Write functions/NAME/event.json.")
    parser.add_argument("--now", action="store_true", help="signed at this moment, to be used within five minutes")
    parser.add_argument("--cid", default=CID)
    parser.add_argument("--secret-key", default=SECRET_KEY)
    parser.add_argument("--nats", default=NATS_URL)
    options = parser.parse_args()
    moment = time.time() if options.now else FIXED_TIME_S
    for name, event in events(options.cid, options.secret_key, moment, options.nats).items():
        (HERE / name / "event.json").write_text(text_of(event))


if __name__ == "__main__":
    main()
