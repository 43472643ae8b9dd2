"""A node may be killed at every named step: a real server dies there, starts again, and the federation is whole."""

from __future__ import annotations

import dataclasses
import itertools
import json
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest

from gramian import faults
from gramian.client import BadRequest, Client, ClientError
from gramian.client.rows import dataframe
from gramian.domain import frame as frames
from gramian.domain.crypto import SIGNATURE_BYTES
from gramian.node import Node
from gramian.settings import Settings
from gramian.usecases import users
from gramian.usecases.federation import found, pulse
from gramian.usecases.federation import join as joining
from gramian.usecases.projects import blobs, lifecycle
from gramian.usecases.projects import rows as local_rows
from gramian_local.node import opened
from gramian_local.process import ServerProcess

NAMES, TYPES, ROWS = ["age", "dose", "weight", "response"], "CCCC", 40
FEDERATION = {"fed_name": "study", "sync_sched": "m30"}
LATER_S = 7200.0
"""Past the grace of blobs, and past the lease after which blobs in the transport are freed again."""
POINTERS = ("blob", "stored", "snapshot")


def rows(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(ROWS, 3))
    return np.column_stack([inputs, inputs @ [1.0, -2.0, 0.5] + random.normal(size=ROWS)])


def frame(data: np.ndarray) -> frames.Frame:
    return frames.decode(json.dumps(dataframe(NAMES, TYPES, data)).encode())


def eventually(holds: Callable[[], bool], timeout_s: float = 15) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, "did not come true in time"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Party:
    """An organisation with one user and a home; its server runs on one port. `variables` say which stores it uses."""

    def __init__(self, home: Path, name: str, variables: Mapping[str, str]) -> None:
        self.home, self.name, self.variables = home, name, variables
        self.options = ("--port", str(free_port()), "--no-nats")
        self.server = ServerProcess(home, *self.options, env=variables)
        with self.node() as node:
            self.key = users.create(node, name)

    @property
    def client(self) -> Client:
        return Client(f"http://127.0.0.1:{self.options[1]}", self.name, self.key, timeout_s=20)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.options[1]}"

    @contextmanager
    def node(self, later_s: float = 0.0) -> Iterator[Node]:
        """Its node in this process, for what need not be done by a server."""
        with opened(Settings.from_env(self.variables), self.home) as (node, _):
            yield dataclasses.replace(node, clock=lambda: time.time() + later_s)

    @contextmanager
    def killed(self, step: str) -> Iterator[Client]:
        """A server that the block must bring to `step`, where it dies; afterwards one that runs on."""
        fault = {"GRAMIAN_FAULTS": "1", "GRAMIAN_FAULT": step}
        armed = ServerProcess(self.home, *self.options, env={**self.variables, **fault})
        armed.start()
        try:
            with suppress(ClientError):
                yield self.client
            assert armed.wait(15) == -signal.SIGKILL
        finally:
            armed.kill()
        self.server.start()


@dataclass
class Stage:
    """A federation of `x`, whose server is killed at `step`, and `y`, which lives on. `held`: rows that must count."""

    step: str
    x: Party
    y: Party
    meeting: Any
    pid: str
    held: list[np.ndarray] = field(default_factory=list)

    @property
    def map(self) -> dict[str, Any]:
        return {**FEDERATION, **self.meeting.keys}

    def invitation(self, admin: Party) -> dict[str, Any]:
        """With what a member adds to it."""
        return {**admin.client.invite(self.pid, "password", admin.url), **self.meeting.own}

    def join(self) -> None:
        """x becomes a member of y's federation, in this process."""
        self.y.client.create_federation(self.pid, **self.map)
        with self.x.node() as node:
            joining.join(node, "x", self.pid, self.invitation(self.y), persist=True)
        self.y.client.learn(self.pid, NAMES, TYPES, rows(1))
        self.held.append(rows(1))

    def found(self) -> None:
        """x founds a federation, in this process."""
        with self.x.node() as node:
            found.create(node, "x", self.pid, self.map, persist=True)

    def y_joins(self, invitation: dict[str, Any] | None = None) -> None:
        self.y.client.join(self.pid, invitation or self.invitation(self.x))
        self.y.client.learn(self.pid, NAMES, TYPES, rows(1))
        self.held.append(rows(1))

    def x_learns(self, seed: int, *, publish: bool = False) -> None:
        """In this process."""
        with self.x.node() as node:
            local_rows.learn(node, lifecycle.find(node, "x", self.pid), frame(rows(seed)))
            if publish:
                pulse.run(node, "x", self.pid)
        self.held.append(rows(seed))

    def local_rows(self) -> int:
        return int(self.x.client.project_info(self.pid)["params"]["local_rows"])

    def sync(self) -> None:
        for party in (self.x, self.y, self.x, self.y):
            party.client.sync(self.pid)


def learn(stage: Stage, *, counted: bool) -> None:
    """Not acknowledged: wholly in or out, attributes included, and the repetition makes it exactly once."""
    stage.join()
    with stage.x.killed(stage.step) as client:
        client.learn(stage.pid, NAMES, TYPES, rows(2), idempotency_key="k")
    assert stage.local_rows() == (ROWS if counted else 0)
    assert stage.x.client.project_info(stage.pid)["attributeNames"] == (NAMES if counted else [])
    for _ in range(2):
        stage.x.client.learn(stage.pid, NAMES, TYPES, rows(2), idempotency_key="k")
    stage.held.append(rows(2))
    assert stage.local_rows() == ROWS


def learn_later(stage: Stage, *, counted: bool) -> None:
    """In a job whose process dies: repeated under its key, the batch counts exactly once."""
    stage.join()
    with stage.x.killed(stage.step) as client:
        send_later(stage, client)
        client.wait_for_job("1")
    assert stage.local_rows() == (ROWS if counted else 0)
    for _ in range(2):
        stage.x.client.wait_for_job(send_later(stage, stage.x.client))
    stage.held.append(rows(2))
    assert stage.local_rows() == ROWS
    assert len(stage.x.client.jobs()) == (1 if counted else 2)


def send_later(stage: Stage, client: Client) -> str:
    body, headers = dataframe(NAMES, TYPES, rows(2)), {"Idempotency-Key": "k"}
    reply = client.request("POST", f"/projects/{stage.pid}/learn", {"async": "true"}, body=body, headers=headers)
    assert reply.job_id is not None
    return reply.job_id


def upload(stage: Stage, *, counted: bool) -> None:
    """A file of two chunks: learned again by its id, its rows count exactly once."""
    stage.join()
    data = np.vstack([rows(seed) for seed in range(100, 100 + 60_000 // ROWS)])
    path = stage.x.home / "rows.csv"
    np.savetxt(path, data, "%.17g", ",", header=",".join(NAMES), comments="")
    with stage.x.killed(stage.step) as client:
        id_ = client.upload(stage.pid, path)
        client.wait_for_job(client.learn_upload(stage.pid, id_))
    assert stage.local_rows() == (len(data) if counted else 0)
    assert is_uploaded(stage, id_)
    with pytest.raises(BadRequest, match="stopped"):
        stage.x.client.job("1")
    for _ in range(2):
        stage.x.client.wait_for_job(stage.x.client.learn_upload(stage.pid, id_))
    stage.held.append(data)
    assert stage.local_rows() == len(data)
    assert not is_uploaded(stage, id_)


def is_uploaded(stage: Stage, id_: str) -> bool:
    with stage.x.node() as node:
        return node.uploads.find(lifecycle.find(node, "x", stage.pid).uid, id_) is not None


def forget(stage: Stage) -> None:
    """Of a batch that is still listed."""
    stage.join()
    stage.x_learns(2)
    stage.x_learns(3)
    with stage.x.killed(stage.step) as client:
        client.forget(stage.pid, NAMES, TYPES, rows(3), idempotency_key="k")
    assert stage.local_rows() == ROWS
    stage.x.client.forget(stage.pid, NAMES, TYPES, rows(3), idempotency_key="k")
    assert stage.local_rows() == ROWS
    stage.held.pop()


def sync(stage: Stage) -> None:
    """Everything that a sync replaces is there before: a base, a publication, a peer's snapshot, a merge."""
    stage.join()
    stage.y.client.sync(stage.pid)
    stage.x_learns(2, publish=True)
    stage.x_learns(3)
    stage.y.client.learn(stage.pid, NAMES, TYPES, rows(4))
    stage.y.client.sync(stage.pid)
    stage.held.append(rows(4))
    with stage.x.killed(stage.step) as client:
        client.sync(stage.pid)


def create(stage: Stage) -> None:
    """Nothing is left of the first try, neither here nor in the transport."""
    before = stage.meeting.everything()
    with stage.x.killed(stage.step) as client:
        client.create_federation(stage.pid, **stage.map)
    assert stage.x.client.projects() == []
    eventually(lambda: stage.meeting.everything() == before)
    stage.x.client.create_federation(stage.pid, **stage.map)
    stage.y_joins()


def join(stage: Stage) -> None:
    """The same invitation works again, and there is one member, not two."""
    stage.y.client.create_federation(stage.pid, **stage.map)
    invitation = stage.invitation(stage.y)
    with stage.x.killed(stage.step) as client:
        client.join(stage.pid, invitation)
    assert stage.x.client.projects() == []
    stage.x.client.join(stage.pid, invitation)
    stage.y.client.learn(stage.pid, NAMES, TYPES, rows(1))
    stage.held.append(rows(1))


def redeem(stage: Stage) -> None:
    """The joiner has nothing, and the same invitation works again."""
    stage.found()
    with stage.x.killed(stage.step) as client:
        invitation = {**client.invite(stage.pid, "password", stage.x.url), **stage.meeting.own}
        stage.y.client.join(stage.pid, invitation)
    assert stage.pid not in stage.y.client.projects()
    stage.y_joins(invitation)


def pin(stage: Stage) -> None:
    """The admin's first sync pins the attributes in the roster."""
    stage.found()
    stage.x_learns(2)
    with stage.x.killed(stage.step) as client:
        client.sync(stage.pid)
    stage.y_joins()


def start_pulse(stage: Stage) -> None:
    """The restarted server pulses."""
    stage.join()
    stage.x_learns(2)
    with stage.x.killed(stage.step) as client:
        client.start_pulse(stage.pid)
    eventually(lambda: stage.x.client.sync_stats(stage.pid)["sndCount"] == 1)
    assert scheduled(stage.x) == [f"x/{stage.pid}"]
    stage.x.client.stop_pulse(stage.pid)


def build(stage: Stage, *, built: int) -> None:
    """The job has failed, the model is the old or the new one, and building it again works."""
    stage.join()
    stage.x_learns(2)
    with stage.x.killed(stage.step) as client:
        client.build(stage.pid, "m", "response")
    (job,) = stage.x.client.jobs()
    assert job["isDone"]
    with pytest.raises(BadRequest, match="stopped"):
        stage.x.client.wait_for_job(str(job["jobId"]), timeout_s=1)
    assert stage.x.client.project_info(stage.pid)["modelsList"] == ["m"] * built
    stage.x.client.build(stage.pid, "m", "response")


def delete(stage: Stage) -> None:
    """The project is gone with all that was its own, and its name is free."""
    stage.join()
    stage.x_learns(2, publish=True)
    with stage.x.node() as node:
        uid = lifecycle.find(node, "x", stage.pid).uid
    with stage.x.killed(stage.step) as client:
        client.start_pulse(stage.pid)
        client.delete_project(stage.pid)
    assert stage.x.client.projects() == []
    with stage.x.node() as node:
        assert node.state.query(lifecycle.partition(uid)) == []
        assert list(node.blobs.list(uid)) == []
        pulse.scheduled(node, "x", stage.pid)
    assert scheduled(stage.x) == []
    stage.held.pop()
    stage.x.client.join(stage.pid, stage.invitation(stage.y))


def leave(stage: Stage) -> None:
    """Repeated, it reaches the others: x's rows no longer count. With a new invitation it comes back."""
    stage.join()
    stage.x_learns(2, publish=True)
    with stage.x.killed(stage.step) as client:
        client.request("POST", f"/fedml/{stage.pid}/leave")
    stage.x.client.request("POST", f"/fedml/{stage.pid}/leave")
    stage.y.client.sync(stage.pid)
    assert stage.y.client.project_info(stage.pid)["params"]["fed_rows"] == str(ROWS)
    stage.x.client.delete_project(stage.pid)
    stage.held.pop()
    stage.x.client.join(stage.pid, stage.invitation(stage.y))


def explore(stage: Stage) -> None:
    """What the node has settled reaches the admin's roster by its next sync."""
    stage.join()
    stage.x_learns(2, publish=True)
    with stage.x.killed(stage.step) as client:
        client.set_explore_peers(stage.pid, allow=False)
    stage.sync()
    listed = stage.y.client.federation_info(stage.pid)
    id_ = stage.x.client.federation_info(stage.pid)["local_uuid"]
    assert json.loads(listed["peersInfo"][id_])["explore"] is False


def reclaim(stage: Stage) -> None:
    """The room of an evicted member is given back once more, and it joins again as another one."""
    stage.found()
    with stage.x.killed(stage.step) as client:
        stage.y_joins()
        stage.y.client.sync(stage.pid)
        client.evict(stage.pid, stage.y.client.federation_info(stage.pid)["local_uuid"])
        client.sync(stage.pid)
    stage.x.client.sync(stage.pid)
    stage.y.client.delete_project(stage.pid)
    stage.held.pop()
    stage.y_joins()


def scheduled(party: Party) -> list[str]:
    with party.node() as node:
        return [key for key, _ in node.state.query("pulses")]


SCENARIOS: dict[str, Callable[[Stage], None]] = {
    "learn.blob": lambda stage: learn(stage, counted=False),
    "learn.commit": lambda stage: learn(stage, counted=True),
    "forget.commit": forget,
    "compaction.blob": sync,
    "compaction.commit": sync,
    "compaction.discard": sync,
    "job.recorded": lambda stage: learn_later(stage, counted=False),
    "job.finished": lambda stage: learn_later(stage, counted=True),
    "upload.blob": lambda stage: upload(stage, counted=False),
    "upload.noted": lambda stage: upload(stage, counted=False),
    "upload.learned": lambda stage: upload(stage, counted=True),
    "create.streams": create,
    "join.redeemed": join,
    "redemption.commit": redeem,
    "roster.commit": pin,
    "pulsing.commit": start_pulse,
    "publish.decided": sync,
    "publish.blob": sync,
    "publish.head": sync,
    "publish.freed": sync,
    "explore.commit": explore,
    "reclaim.freed": reclaim,
    "leave.decided": leave,
    "accept.blob": sync,
    "accept.commit": sync,
    "merge.blob": sync,
    "merge.commit": sync,
    "build.blob": lambda stage: build(stage, built=0),
    "build.commit": lambda stage: build(stage, built=1),
    "delete.commit": delete,
    "delete.items": delete,
}


IN_TRANSPORT = (
    "create.streams",
    "join.redeemed",
    "redemption.commit",
    "roster.commit",
    "publish.decided",
    "publish.blob",
    "publish.head",
    "publish.freed",
    "leave.decided",
    "delete.commit",
)
"""Steps after which it matters what stands in the transport."""


@pytest.fixture(scope="module")
def y_over(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Party]]:
    """One for each transport, with the environment that this needs."""
    parties: dict[str, Party] = {}
    with ExitStack() as stack:

        def party(transport: str) -> Party:
            if transport not in parties:
                parties[transport] = Party(tmp_path_factory.mktemp("y"), "y", {})
                stack.enter_context(parties[transport].server)
            return parties[transport]

        yield party


@pytest.fixture
def stores(request: pytest.FixtureRequest) -> dict[str, str]:
    """Variables for those of x: of its home, unless the test says otherwise."""
    return {"home": dict, "aws": lambda: stores_on_aws(request)}[getattr(request, "param", "home")]()


def stores_on_aws(request: pytest.FixtureRequest) -> dict[str, str]:
    """All that the bundle has, with a table and a bucket of their own."""
    for name, value in request.getfixturevalue("emulator").environment.items():
        request.getfixturevalue("monkeypatch").setenv(name, value)
    bucket = f"stores-{secrets.token_hex(6)}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return {
        "GRAMIAN_STATE": "dynamodb",
        "GRAMIAN_TOKENS": "dynamodb",
        "GRAMIAN_DYNAMODB_TABLE": request.getfixturevalue("make_table")(boto3.client("dynamodb")),
        "GRAMIAN_BLOBS": "s3",
        "GRAMIAN_UPLOADS": "s3",
        "GRAMIAN_S3_BUCKET": bucket,
    }


@pytest.fixture
def stage(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    meeting: Any,
    y_over: Callable[[str], Party],
    stores: dict[str, str],
) -> Iterator[Stage]:
    step = request.node.callspec.params["step"]
    pid = f"{request.node.originalname[5:20]}-{step}".replace(".", "-")
    stage = Stage(step, Party(tmp_path / "x", "x", stores), y_over(meeting.name), meeting, pid)
    yield stage
    stage.x.server.kill()


@pytest.mark.parametrize("step", faults.STEPS)
def test_node_killed_at_step_goes_on(step: str, stage: Stage, pooled: Callable[..., np.ndarray]) -> None:
    """What was acknowledged counts once, the federation converges, and nothing is left over."""
    assert_goes_on(stage, pooled)


@pytest.mark.slow
@pytest.mark.parametrize("stores", ["aws"], indirect=True)
@pytest.mark.parametrize("step", faults.STEPS)
def test_node_on_the_stores_of_the_bundle_killed_at_step_goes_on(
    step: str, stores: dict[str, str], stage: Stage, pooled: Callable[..., np.ndarray]
) -> None:
    """Whatever was written last to the table or the bucket."""
    assert_goes_on(stage, pooled)


@pytest.mark.transports("s3", slow=("s3",))
@pytest.mark.parametrize("step", IN_TRANSPORT)
def test_node_killed_between_steps_in_another_transport_goes_on(
    step: str, stage: Stage, pooled: Callable[..., np.ndarray]
) -> None:
    """Whatever of its objects was written last."""
    assert_goes_on(stage, pooled)


def assert_goes_on(stage: Stage, pooled: Callable[..., np.ndarray]) -> None:
    SCENARIOS[stage.step](stage)
    stage.x.client.learn(stage.pid, NAMES, TYPES, rows(9))
    stage.held.append(rows(9))
    stage.sync()
    assert_converged(stage)
    assert_predictions_are_those_of_the_pooled_rows(stage, pooled)
    assert stage.x.server.stop() == 0
    assert "Traceback" not in stage.x.server.log_path.read_text()
    assert_nothing_is_left_over(stage)


@pytest.mark.parametrize(("step", "counted"), [("learn.blob", False), ("learn.commit", True)])
def test_background_learn_is_repeated_when_its_process_died(step: str, counted: bool, stage: Stage) -> None:
    """The job has failed, although it may have counted the rows; the same call again makes it exactly once."""

    stage.join()
    with stage.x.killed(step) as client:
        send_later(stage, client)
    assert stage.local_rows() == (ROWS if counted else 0)
    (first,) = stage.x.client.jobs()
    with pytest.raises(BadRequest, match="stopped"):
        stage.x.client.job(str(first["jobId"]))
    for _ in range(2):
        stage.x.client.wait_for_job(send_later(stage, stage.x.client), timeout_s=10)
        assert stage.local_rows() == ROWS


def test_every_step_is_reached_by_a_scenario() -> None:
    """And no scenario names a step that is gone."""
    assert set(SCENARIOS) == set(faults.STEPS)


def assert_converged(stage: Stage) -> None:
    params = [party.client.project_info(stage.pid)["params"] for party in (stage.x, stage.y)]
    assert {each["fed_rows"] for each in params} == {str(sum(len(part) for part in stage.held))}
    assert len({each["fed_inputs"] for each in params}) == 1
    assert len({each["fed_digest"] for each in params} - {""}) == 1


def assert_predictions_are_those_of_the_pooled_rows(stage: Stage, pooled: Callable[..., np.ndarray]) -> None:
    expected = pooled(np.vstack(stage.held), rows(99)[:, :3])
    for party in (stage.x, stage.y):
        party.client.build(stage.pid, "check", "response")
        predictions = party.client.predict(stage.pid, "check", NAMES[:3], rows(99)[:, :3])
        np.testing.assert_allclose([float(row["res"]) for row in predictions], expected, rtol=1e-9, atol=1e-9)


def assert_nothing_is_left_over(stage: Stage) -> None:
    """On the stopped home after a last pulse and a sweep, both later: no blob too many or too few, here and
    in the transport."""
    with stage.x.node(LATER_S) as node:
        pulse.run(node, "x", stage.pid)
        project = lifecycle.find(node, "x", stage.pid)
        blobs.sweep(node, project)
        items = dict(node.state.query(project.partition))
        assert json.loads(items["publication"].value)["stale"] == []
        assert_blobs_are_those_named(node, project, [item.value for key, item in items.items() if key != "roster"])
        fed_id = json.loads(items["federation"].value)["fed_id"]
    raw = stage.meeting.raw(fed_id)
    found = {key: json.loads(raw.stored(key)[SIGNATURE_BYTES:]) for key in raw.entries()}
    members = found.pop(raw.roster())["members"]
    active = [each["id"] for each in members if each["state"] == "active"]
    current = [head for head in found.values() if head["id"] in active]
    shown = {raw.chunk(head["id"], head["blob_id"], str(i)) for head in current for i in range(head["chunks"])}
    assert raw.chunks() == shown


def assert_blobs_are_those_named(node: Node, project: lifecycle.Project, values: list[bytes]) -> None:
    kept = {info.digest for info in node.blobs.list(project.uid)}
    fields = list(itertools.chain.from_iterable(json.loads(value or b"{}").items() for value in values))
    named = {value for name, value in fields if name in POINTERS and value}
    assert kept == named
