"""The deployed bundle does the whole job: functions, stores, schedules and policies as the template has them."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from gramian.client import BadRequest, ClientError, ConflictError
from gramian.domain import signing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NAMES = ["dose", "age", "weight", "response"]
FED = {"fed_name": "study", "nats_stream_max_memory": 2**24}
PERIOD_S = 60
DEMO_ROWS = 442
"""Of the diabetes data that it comes with."""


def rows_of(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(count, 3))
    return np.column_stack([inputs, inputs @ [1.0, -2.0, 0.5] + rng.normal(size=count)])


def federate(organisations: list[Any], nats_url: str, pid: str, **keys: Any) -> None:
    """Found by the first, joined by the others."""
    admin, *peers = organisations
    admin.client.create_federation(pid, nats_hosts=nats_url, **FED, **{"sync_sched": "d7", **keys})
    for peer in peers:
        peer.client.join(pid, admin.client.invite(pid, "a long password", admin.url))


def eventually(holds: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.5)


def params(organisation: Any, pid: str) -> dict[str, str]:
    return organisation.client.project_info(pid)["params"]


@pytest.fixture
def pid(organisations, request) -> Iterator[str]:
    """A project's id; the project is deleted in the end."""
    name = f"p{secrets.token_hex(4)}"
    yield name
    for each in reversed(organisations):
        if name in each.client.projects():
            each.client.delete_project(name)


def signed_by_hand(organisation: Any, method: str, path: str, query: str, body: bytes) -> tuple[int, dict[str, Any]]:
    """A request whose query goes exactly as it is written here."""
    resource = f"/symetry/rest/{organisation.name}{path}"
    request = signing.Signable.of(method, signing.format_sym_date(time.time_ns()), organisation.name, body)
    headers = {
        "Authorization": signing.sign(organisation.secret_key, request, signing.Target(resource, query)),
        "Sym-date": request.sym_date,
        "Content-MD5": request.content_md5,
        "Content-Type": "application/json",
    }
    parts = urlsplit(organisation.url)
    with closing(HTTPConnection(parts.hostname, parts.port, timeout=60)) as connection:
        connection.request(method, f"{parts.path}{resource}?{query}", body or None, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


@pytest.mark.parametrize("encrypt", [False, True])
def test_two_stacks_build_the_model_of_the_pooled_rows(organisations, nats_server, pid, pooled, encrypt) -> None:
    """Create, invite, join, learn, sync, build, predict: byte-equal models, and what one machine would find."""
    federate(organisations, nats_server.url, pid, fed_encrypt=encrypt)
    parts = [rows_of(80, 1), rows_of(150, 2)]
    for each, rows in zip(organisations, parts, strict=True):
        each.client.learn(pid, NAMES, "CCCC", rows)
    for each in organisations * 2:
        each.client.sync(pid)
    found = [params(each, pid) for each in organisations]
    assert [each["fed_rows"] for each in found] == ["230", "230"]
    assert found[0]["fed_digest"] == found[1]["fed_digest"] != ""
    assert found[0]["fed_inputs"] == found[1]["fed_inputs"]
    models = []
    test = rows_of(20, 3)
    for each in organisations:
        each.client.build(pid, "fit", "response")
        models.append(each.client.model(pid, "fit")["extra"])
        predicted = [float(row["res"]) for row in each.client.predict(pid, "fit", NAMES[:-1], test[:, :-1])]
        np.testing.assert_allclose(predicted, pooled(np.vstack(parts), test[:, :-1]), rtol=1e-9, atol=1e-9)
    assert models[0] == models[1]


def test_invitation_without_an_address_leads_back_through_the_stage(
    organisations, nats_server, pid, aws, events
) -> None:
    """The inviting function gets an event as AWS makes it, whose path has the stage: the emulator leaves it out.

    Whoever joins by that path, at the emulator's host, redeems the invitation there.
    """
    admin, peer = organisations
    federate([admin], nats_server.url, pid)
    asked = events.Request("POST", f"/fedml/{pid}/getInvitation", sealed={"passwd": "a long password"})
    event = events._event(asked, admin.name, admin.secret_key, time.time_ns())
    answer = json.loads(invoke(aws, admin, "InvitePeer", event)["body"])
    invitation = admin.client.open_invitation(answer["values"]["fedInfoEncrypted"], "a long password")
    stage = urlsplit(admin.url).path.rpartition("/")[2]
    front = f"https://{events.HOST}/{stage}/"
    assert invitation["fed_rest_url"].startswith(f"{front}symetry/rest/{admin.name}/fedml/{pid}")
    here = invitation["fed_rest_url"].replace(front, f"{admin.url}/")
    peer.client.join(pid, {**invitation, "fed_rest_url": here})
    assert len(json.loads(params(peer, pid)["fed_peers"])) == 2


def test_demo_runs_on_a_stack(organisations, nats_server) -> None:
    """`gramian demo --url`: three projects of one user, and figures that hold; nothing of it stays."""
    admin = organisations[0]
    before = admin.client.projects()
    command = [sys.executable, "-m", "gramian_local", "demo", "--json", "--url", admin.url, "--cid", admin.name]
    done = subprocess.run(
        [*command, "--nats", nats_server.url],
        env={**os.environ, "GRAMIAN_SECRET_KEY": admin.secret_key},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert sum(figures["rows"].values()) == DEMO_ROWS
    assert len(figures["rows"]) == 3
    assert set(figures["federated_rows"].values()) == {DEMO_ROWS}
    assert len(set(figures["digests"].values())) == 1
    assert figures["models_equal"]
    assert 0 <= figures["difference"] <= 1e-8
    assert figures["sync_bytes"] > 0
    assert admin.client.projects() == before


def test_schedule_pulses_without_anybody_asking(organisations, nats_server, pid, aws) -> None:
    """EventBridge Scheduler really starts the function, and each node has one schedule of its own name."""
    federate(organisations, nats_server.url, pid, sync_sched="m1")
    for seed, each in enumerate(organisations):
        each.client.learn(pid, NAMES, "CCCC", rows_of(50, seed))
        each.client.start_pulse(pid)
        each.client.start_pulse(pid)
        names = schedules(aws, each)
        assert len(names) == 1
    eventually(lambda: {params(each, pid).get("fed_rows") for each in organisations} == {"100"}, 3 * PERIOD_S)
    first = params(organisations[0], pid)["fed_digest"]
    organisations[0].client.learn(pid, NAMES, "CCCC", rows_of(50, 7))
    eventually(lambda: {params(each, pid)["fed_rows"] for each in organisations} == {"150"}, 4 * PERIOD_S)
    digests = {params(each, pid)["fed_digest"] for each in organisations}
    assert len(digests) == 1
    assert first not in digests
    for each in organisations:
        each.client.stop_pulse(pid)
        assert schedules(aws, each) == []


def schedules(aws: Callable[[str], Any], organisation: Any) -> list[str]:
    group = organisation.stack.outputs["ScheduleGroup"]
    return [each["Name"] for each in aws("scheduler").list_schedules(GroupName=group)["Schedules"]]


def test_deletion_removes_the_schedule(organisations, nats_server, pid, aws) -> None:
    """Also that of a project that still pulses."""
    federate(organisations[:1], nats_server.url, pid)
    organisations[0].client.start_pulse(pid)
    assert len(schedules(aws, organisations[0])) == 1
    organisations[0].client.delete_project(pid)
    assert schedules(aws, organisations[0]) == []


def test_tidying_up_mends_schedules_and_drops_what_was_not_to_be_kept(organisations, nats_server, pid, aws) -> None:
    """A schedule that somebody deleted or changed comes back as the project wants it."""
    admin = organisations[0]
    federate([admin], nats_server.url, pid, sync_sched="h6")
    admin.client.start_pulse(pid)
    scheduler, group = aws("scheduler"), admin.stack.outputs["ScheduleGroup"]
    (name,) = schedules(aws, admin)
    wanted = scheduler.get_schedule(GroupName=group, Name=name)
    assert wanted["ScheduleExpression"] == "rate(6 hours)"
    scheduler.update_schedule(
        GroupName=group,
        Name=name,
        ScheduleExpression="rate(1 day)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target=wanted["Target"],
    )
    invoke(aws, admin, "TidyUp")
    assert scheduler.get_schedule(GroupName=group, Name=name)["ScheduleExpression"] == "rate(6 hours)"
    scheduler.delete_schedule(GroupName=group, Name=name)
    invoke(aws, admin, "TidyUp")
    assert schedules(aws, admin) == [name]


def invoke(aws: Callable[[str], Any], organisation: Any, logical_id: str, event: Any = None) -> Any:
    """Run a function by itself and wait for its answer."""
    name = function_name(aws, organisation, logical_id)
    answer = aws("lambda").invoke(FunctionName=name, Payload=json.dumps(event or {}).encode())
    said = answer["Payload"].read()
    assert "FunctionError" not in answer, said
    return json.loads(said)


def function_name(aws: Callable[[str], Any], organisation: Any, logical_id: str) -> str:
    found = aws("cloudformation").describe_stack_resource(
        StackName=organisation.stack.name, LogicalResourceId=logical_id
    )
    return str(found["StackResourceDetail"]["PhysicalResourceId"])


def test_query_counts_as_it_was_sent(organisations, pid) -> None:
    """Percent-encoded though it need not be, and in another order than any library would write it."""
    admin = organisations[0]
    status, _ = signed_by_hand(admin, "POST", "/projects", f"type=%63pu&pid=%70{pid[1:]}", b"")
    assert status == 201
    admin.client.learn(pid, NAMES, "CCCC", rows_of(60, 1))
    body = json.dumps({"targetAttributeNames": ["response"], "extraParameters": {}}).encode()
    status, _ = signed_by_hand(admin, "POST", f"/projects/{pid}/build", "modelid=m%2E1&algo=%6Dlr", body)
    assert status == 202
    eventually(lambda: admin.client.project_info(pid)["modelsList"] == ["m.1"], 60)


def test_request_that_nothing_answers_gets_the_contracts_envelope(organisations) -> None:
    """From the function behind the API's default route."""
    status, envelope = signed_by_hand(organisations[0], "GET", "/nothing", "", b"")
    assert (status, envelope["statusCode"]) == (404, "NOT_FOUND")


def test_body_beyond_the_limit_of_functions_names_the_way_for_large_files(organisations, pid) -> None:
    """3.5 MiB, of the 6 that an event may have."""
    client = organisations[0].client
    client.create_project(pid)
    with pytest.raises(BadRequest, match=r"3670016 bytes.*/uploads"):
        client.learn(pid, NAMES, "CCCC", rows_of(70_000, 1))


def test_rows_that_are_learned_in_a_job_count_once(organisations, pid) -> None:
    """`async=true`: the function that takes them in hands them to run_job, by the blob store."""
    client = organisations[0].client
    client.create_project(pid)
    frame = {"attributeNames": NAMES, "attributeTypes": list("CCCC"), "data": rows_of(60, 1).astype(str).tolist()}
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    path = f"/projects/{pid}/learn"
    first = client.request("POST", path, {"async": True}, body=frame, headers=headers)
    again = client.request("POST", path, {"async": True}, body=frame, headers=headers)
    assert first.job_id == again.job_id is not None
    client.wait_for_job(first.job_id)
    assert params(organisations[0], pid)["local_rows"] == "60"


def test_sync_that_fails_says_why(organisations, pid, tmp_path) -> None:
    """The pulse function's error is the caller's answer, as where no other process is involved."""
    from gramian_local.nats_server import NatsServer

    with NatsServer.start(tmp_path) as short_lived:
        federate(organisations[:1], short_lived.url, pid, nats_req_timeout=2)
    with pytest.raises(BadRequest, match=r"NATS|nats"):
        organisations[0].client.sync(pid)


def test_one_of_many_joiners_redeems_an_invitation(organisations, nats_server, pid, on_emulator) -> None:
    """64 at once, over the stack's own table, key and policies' stores."""
    from gramian import node as nodes
    from gramian.domain.protocol import invitation, redemption
    from gramian.domain.protocol.keys import PeerKeys
    from gramian.errors import InvalidRequest, Unavailable
    from gramian.usecases.federation import invite

    admin = organisations[0]
    federate([admin], nats_server.url, pid)
    invited = invitation.parse({key: str(text) for key, text in admin.client.invite(pid, "pw", admin.url).items()})
    shared = redemption.Keys.derive(invited.secret, invited.tid, *invited.admin())
    start = threading.Barrier(64)
    with nodes.opened(admin.settings()) as node:

        def redeem(number: int) -> str:
            own = PeerKeys.derive(secrets.token_bytes(32), bytes.fromhex(invited.tid), f"joiner{number}", pid)
            body = redemption.apply(shared, own)
            start.wait()
            for _ in range(20):
                try:
                    invite.redeem(node, admin.name, pid, body, "192.0.2.1")
                except Unavailable:
                    continue
                except InvalidRequest as error:
                    return str(error)
                return "redeemed"
            return "unavailable all the time"

        with ThreadPoolExecutor(64) as pool:
            outcomes = list(pool.map(redeem, range(64)))
    assert sorted(outcomes) == sorted(["redeemed", *[invite.USED] * 63])
    members = json.loads(params(admin, pid)["fed_peers"])
    assert len(members) == 2


def test_rows_equal_the_acknowledged_ones_after_many_learns_at_once(organisations, pid) -> None:
    """200 through the API, as many at once as the emulator can carry: nothing lost, nothing twice."""
    client = organisations[0].client
    client.create_project(pid)
    batch = rows_of(3, 1)

    def learn(number: int) -> bool:
        try:
            client.learn(pid, NAMES, "CCCC", batch + number, idempotency_key=f"batch {number}")
        except ClientError:
            return False
        return True

    learn(0)
    with ThreadPoolExecutor(8) as pool:
        done = [number for number, ok in enumerate(pool.map(learn, range(1, 200)), 1) if ok]
    with ThreadPoolExecutor(4) as pool:
        repaired = list(pool.map(learn, sorted(set(range(200)) - set(done))))
    assert all(repaired)
    assert params(organisations[0], pid)["local_rows"] == "600"


@pytest.mark.parametrize(
    ("function", "step"),
    [
        ("LearnRows", "learn.blob"),
        ("LearnRows", "learn.commit"),
        ("StartPulse", "pulsing.commit"),
        ("BuildModel", "job.recorded"),
        ("DeleteProject", "delete.commit"),
    ],
)
def test_function_killed_at_its_own_write_is_right_when_called_again(
    organisations, nats_server, pid, aws, function, step
) -> None:
    """Killed once at each of the steps where the bundle's functions write; the caller just repeats its call."""
    admin = organisations[0]
    federate([admin], nats_server.url, pid)
    calls = {
        "LearnRows": lambda: admin.client.learn(pid, NAMES, "CCCC", rows_of(60, 2), idempotency_key=f"{pid} {step}"),
        "StartPulse": lambda: admin.client.start_pulse(pid),
        "BuildModel": lambda: admin.client.build(pid, "fit", "response"),
        "DeleteProject": lambda: admin.client.delete_project(pid),
    }
    if function == "BuildModel":
        admin.client.learn(pid, NAMES, "CCCC", rows_of(60, 1))
    with armed(aws, function_name(aws, admin, function), step), pytest.raises(ClientError):
        calls[function]()
    if function == "DeleteProject":
        with pytest.raises(BadRequest, match="does not have Project"):
            calls[function]()
        assert pid not in admin.client.projects()
        return
    patiently(calls[function])
    info = admin.client.project_info(pid)
    assert info["params"]["local_rows"] == {"LearnRows": "60", "BuildModel": "60"}.get(function, "0")
    if function == "StartPulse":
        assert len(schedules(aws, admin)) == 1
    if function == "BuildModel":
        assert info["modelsList"] == ["fit"]


def patiently(call: Callable[[], Any]) -> None:
    """Nobody sees that a function was killed: until its time limit is over, its operation counts as under way."""
    deadline = time.monotonic() + 60
    while True:
        try:
            call()
        except ConflictError:
            assert time.monotonic() < deadline, "its operation never ends"
            time.sleep(1)
        else:
            return


class armed:  # noqa: N801 (used as a function)
    """A function's processes die at a step while this lasts."""

    def __init__(self, aws: Callable[[str], Any], name: str, step: str) -> None:
        self._lambda, self._name, self._step = aws("lambda"), name, step

    def __enter__(self) -> None:
        self._variables = self._lambda.get_function_configuration(FunctionName=self._name)["Environment"]["Variables"]
        self._set({**self._variables, "GRAMIAN_FAULTS": "1", "GRAMIAN_FAULT": self._step})

    def __exit__(self, *_: Any) -> None:
        self._set(self._variables)

    def _set(self, variables: dict[str, str]) -> None:
        self._lambda.update_function_configuration(FunctionName=self._name, Environment={"Variables": variables})
