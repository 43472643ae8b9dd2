"""The whole server under generated requests that are signed as they leave, so that the fuzz reaches what lies behind.

Schemathesis makes requests from the OpenAPI document, fitting and unfitting ones. Ids are mostly those of things that
exist, and half of the bodies are maps, frames and contexts that make sense up to a few odd values.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from requests import PreparedRequest
from requests.auth import AuthBase
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error

from gramian.domain import sealing, signing
from gramian.domain.sealing import Scheme
from gramian.http import openapi
from gramian.http.envelope import STATUS
from gramian.usecases import users

SCHEMA = schemathesis.openapi.from_dict(json.loads(openapi.text()))
OPERATIONS = {
    operation.definition.raw["operationId"]: operation
    for operation in (result.ok() for result in SCHEMA.get_all_operations())
}
SEALED = {"AwsAccount", "FederationWishes", "InvitationWishes", "OpenedInvitation", "TransportWishes"}
ALWAYS_REFUSED = {
    "federation.create_join",
    "federation.create_policies",
    "federation.evict",
    "federation.leave",
    "openapi.serve",
}
"""One needs a second node and an invitation for more, or is no envelope."""
EXAMPLES, MANY_EXAMPLES = 15, 100
NATS_PASSWORD, INVITATION_PASSWORD, AWS_SECRET = "canary-of-nats", "canary-of-the-invitation", "canary-of-aws"

ODD: st.SearchStrategy[Any] = st.one_of(
    st.text(max_size=20),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.sampled_from(["", " ", "nan", "-0", "1e999", "\0", "\n", "٣", "m0", "d99999999999", "FEDTOKEN", "A" * 5000]),
    st.lists(st.integers(), max_size=2),
)


def closed(scheme: str) -> st.SearchStrategy[Any]:
    """Addresses where nothing answers and no name is looked up."""
    return st.one_of(
        st.sampled_from([f"{scheme}://127.0.0.1:1", f"{scheme}://[::1]:1", f"{scheme}://169.254.169.254/", "[", "a b"]),
        st.sampled_from(
            [f"{scheme}://127.0.0.1:99999", f"{scheme}://@127.0.0.1", "//", ":", ",", "http://", "0", "\0"]
        ),
        st.integers(max_value=-1),
        st.none(),
    )


class Signed(AuthBase):
    """Signs method, path, raw query and body as they go out; `own_body` replaces the body, sealed if asked."""

    def __init__(self, secret: str, own_body: Any, seal: Scheme | None) -> None:
        self.secret = secret
        self.own_body = own_body
        self.seal = seal

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        parts = urlsplit(request.url or "")
        method, cid = str(request.method), unquote(parts.path.split("/")[3]) if parts.path.count("/") > 3 else ""
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else bytes(body)
        if self.own_body is not None:
            body = json.dumps(self.own_body).encode()
        if self.seal is not None:
            place = {"method": method, "cid": cid, "path": parts.path}
            key = signing.decode_secret(self.secret)
            body = sealing.seal_body(body, key, self.seal, secrets.token_bytes, **place).encode()
        if self.own_body is not None:
            request.prepare_body(body, None)
        date = signing.format_sym_date(time.time_ns())
        signable = signing.Signable.of(method, date, cid, body)
        request.headers["Sym-date"] = date
        request.headers["Authorization"] = signing.sign(self.secret, signable, signing.Target(parts.path, parts.query))
        return request


@dataclass
class World:
    """A server with a project, a model and a federation, and what its answers must never hold."""

    url: str
    cid: str
    secret: str
    nats_url: str
    hidden: list[str]
    upload: str
    answers: Counter[str] = field(default_factory=Counter)

    def envelope(self, _: Any, response: Any, case: Any) -> None:
        """A check: every answer is the envelope, as JSON."""
        assert response.headers["content-type"][0].split(";")[0] == "application/json"
        if case.operation.path == "/openapi.json" and response.status_code == 200:
            return
        body = json.loads(response.content)
        assert list(body) == ["statusCode", "statusString", "values"]
        assert STATUS[body["statusCode"]] == response.status_code
        assert isinstance(body["statusString"], str)
        assert isinstance(body["values"], dict)
        self.answers[body["statusString"] if response.status_code == 400 else body["statusCode"]] += 1

    def no_secret(self, _: Any, response: Any, __: Any) -> None:
        """A check: nothing that only the node or its user knows, and no place in the code."""
        text = response.content.decode() + str(response.headers)
        assert [hidden for hidden in self.hidden if hidden in text] == []

    def send(self, case: Any, own_body: Any, seal: Scheme | None) -> None:
        checks = [not_a_server_error, self.envelope, self.no_secret]
        case.call_and_validate(self.url, auth=Signed(self.secret, own_body, seal), checks=checks, timeout=60)

    def bodies(self, entity: str) -> st.SearchStrategy[Any]:
        """Bodies that make sense up to a few odd values."""
        nats = {"nats_hosts": self.nats_url, "nats_req_timeout": "2", "nats_stream_max_memory": str(2**20)}
        login = {"nats_sec_user": "u", "nats_sec_passwd": NATS_PASSWORD}
        common = {"fed_name": "f", "sync_sched": "m30", **nats}
        token = {"fed_req_token": "FEDTOKEN" + "0" * 32, "fed_secret_key": "A" * 43 + "=", "fed_id": "0" * 32}
        place = f"{self.url}/symetry/rest/{self.cid}/fedml/study/createPolicies"
        return {
            "FederationWishes": odd_maps({**common, **login, "fed_encrypt": "true"}, nats_hosts=closed("nats")),
            "TransportWishes": odd_maps(
                {"nats_req_timeout": "2", "nats_sec_shared": "true"}, nats_hosts=closed("nats")
            ),
            "InvitationWishes": odd_maps(
                {"passwd": INVITATION_PASSWORD, "fed_rest_host": self.url, "fed_token_lifetime_hours": 1},
                fed_rest_host=closed("http"),
            ),
            "OpenedInvitation": odd_maps(
                {**common, **token, "fed_rest_url": place, "fed_local_type": "cpu"},
                nats_hosts=closed("nats"),
                fed_rest_url=closed("http").map(lambda url: f"{url}/symetry/rest/a/fedml/b/createPolicies"),
            ),
            "AwsAccount": odd_maps({"aws_access_key": "AKIA", "aws_secret_key": AWS_SECRET, "aws_region": "EU_WEST_3"}),
            "DataFrame": frames(),
            "UploadColumns": odd_maps({"attributeNames": ["a", "b"], "attributeTypes": ["C", "B"]}),
            "MLContext": odd_maps({"targetAttributeNames": ["y"], "inputAttributes": ["0", 1]}),
            "ProjectOptions": odd_maps({"sml_project_autosave": "true"}),
            "Redemption": odd_maps({"v": 1, "tid": "0" * 64, "sealed": "AAAA"}),
        }[entity]


def odd_maps(sound: dict[str, Any], **instead: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """`sound` as it is or with a few values replaced, left out or added; `instead`: the only other values of a key."""
    # Nothing here may make the server wait long, or NATS reserve much.
    few = {
        "nats_req_timeout": st.sampled_from(["0", "1", -1, "x"]),
        "nats_stream_max_memory": st.sampled_from([0, "x"]),
    }
    others = few | instead
    more = st.text(max_size=5) | st.sampled_from(["fed_use_smpc", "values", "pid", "group_name"])
    return st.one_of(
        st.just(sound),
        st.sampled_from(sorted(sound)).map(lambda left_out: {k: v for k, v in sound.items() if k != left_out}),
        st.sampled_from(sorted(sound)).flatmap(lambda key: others.get(key, ODD).map(lambda odd: {**sound, key: odd})),
        st.dictionaries(more, ODD, max_size=3).map(lambda added: sound | added),
    )


def frames() -> st.SearchStrategy[dict[str, Any]]:
    """Data frames whose rows fit their columns, and mostly the world's project; cells are numbers, mostly."""
    cell = st.one_of(st.sampled_from("01"), st.floats().map(repr), st.sampled_from(["", "NaN", "1e72", "-1e73"]), ODD)
    name = st.sampled_from("abyz") | st.text(max_size=3)

    def rows(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
        right = [{"a": "C", "b": "B", "y": "C"}.get(name, "X") for name in names]
        types = st.just(right) | st.lists(st.sampled_from("CBX"), min_size=len(names), max_size=len(names))
        row = st.lists(st.sampled_from("01") | cell, min_size=len(names), max_size=len(names))
        return st.fixed_dictionaries(
            {"attributeNames": st.just(names), "attributeTypes": types, "data": st.lists(row, max_size=4)}
        )

    return (st.just(["a", "b", "y"]) | st.lists(name, min_size=1, max_size=4, unique=True)).flatmap(rows)


@pytest.fixture
def world(site: Callable[..., Any], nats_server: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("gramian_s3.clients.ATTEMPTS", 1)  # nothing answers there; else jobs would pile up
    here = site("a")
    for pid in ("p", "study"):
        if pid == "study":
            here.client.create_federation(
                pid,
                fed_name="f",
                sync_sched="m30",
                nats_hosts=nats_server.url,
                nats_stream_max_memory=2**20,
                nats_sec_user="u",
                nats_sec_passwd=NATS_PASSWORD,
            )
        else:
            here.client.create_project(pid)
        here.client.learn(pid, ["a", "b", "y"], "CBC", np.random.default_rng(0).integers(0, 2, (30, 3)))
        here.client.build(pid, "m", target="y")
    (tmp_path / "rows.csv").write_text("a,b,y\n1,0,1\n")
    upload = here.client.upload("p", tmp_path / "rows.csv")
    secret = str(users.secret(here.node, "a"))
    master = here.node.vault.master_key
    hidden = [
        secret,
        master.hex(),
        NATS_PASSWORD,
        INVITATION_PASSWORD,
        AWS_SECRET,
        str(tmp_path),
        "Traceback",
        'File "',
    ]
    return World(here.url, "a", secret, nats_server.url, hidden, upload)


def entity_of(operation: Any) -> str:
    """The name of the body's entity; empty for an operation without a body."""
    content = operation.definition.raw.get("requestBody", {}).get("content", {})
    for kind in content.values():
        return str(kind["schema"].get("contentSchema", kind["schema"])["$ref"].rpartition("/")[2])
    return ""


def attack(world: World, name: str, examples: int, *, derandomize: bool) -> None:
    """Send generated requests of one operation. Fails at the first answer that breaks a check."""
    operation, entity = OPERATIONS[name], entity_of(OPERATIONS[name])
    positive, negative = (operation.as_strategy(generation_mode=mode) for mode in GenerationMode)
    known = {"cid": "a", "pid": "study" if name.startswith("federation") else "p", "mid": "m", "number": "1"}
    known["upload"] = world.upload

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=derandomize,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def run(data: st.DataObject) -> None:
        apt = data.draw(st.booleans(), label="apt")
        case = data.draw(positive if apt else positive | negative, label="case")
        for key in (case.path_parameters or {}).keys() & known.keys():
            if apt or data.draw(st.booleans() if key != "cid" else st.sampled_from([True] * 9 + [False]), label=key):
                case.path_parameters[key] = known[key]
        own_body = data.draw(world.bodies(entity), label="body") if apt and entity else None
        seal = data.draw(st.sampled_from(Scheme), label="seal") if apt and entity in SEALED else None
        world.send(case, own_body, seal)

    run()


@pytest.mark.parametrize("name", OPERATIONS)
def test_generated_requests_get_envelopes_without_server_errors_or_secrets(world: World, name: str) -> None:
    """The same requests every time. Most get past the signature, and where it can be, some is done."""
    attack(world, name, 2 * EXAMPLES if entity_of(OPERATIONS[name]) else EXAMPLES, derandomize=True)
    assert world.answers["UNAUTHORIZED"] <= world.answers.total() / 3
    if name not in ALWAYS_REFUSED:
        assert world.answers["OK"] + world.answers["CREATED"] + world.answers["ACCEPTED"] > 0


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", OPERATIONS)
def test_many_new_generated_requests_get_envelopes(world: World, name: str) -> None:
    """Other requests at each run."""
    attack(world, name, MANY_EXAMPLES, derandomize=False)
