"""The template's part for a GPU, deployed: pulses and large learns are jobs of Batch, under the roles of the template.

The jobs really run, as processes with what their container would see of its environment. Numpy stands in for the
device: GRAMIAN_COMPUTE of the job definition is all that is changed in the template.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gramian.client import Client, ClientError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CID, PID = "gpu", "study"
NAMES = ["x", "y"]
FED = {"fed_name": "study", "sync_sched": "d7", "nats_stream_max_memory": 2**24}
SMALL = np.random.default_rng(0).normal(size=(60, 2))
LARGE = np.random.default_rng(1).normal(size=(30_000, 2))
"""More than the 1 MiB from which on a batch is worth a machine."""
FILE_ROWS = 500
WITHIN_S = 60
SUBMITTING = ("LearnRows", "LearnUpload", "Pulse", "SyncFederation")
ASKING = ("DeleteJob", "GetJob", "ListJobs")
ON_MACHINE = {
    "dynamodb:DeleteItem",
    "dynamodb:GetItem",
    "dynamodb:PutItem",
    "dynamodb:Query",
    "s3:DeleteObject",
    "s3:GetObject",
    "s3:PutObject",
    "secretsmanager:GetSecretValue",
}
"""What jobs are allowed and use here; what else their role has is for a schedule that the admin changes, an evicted
node, and as for functions (test_policies.py)."""


@pytest.fixture(scope="module")
def stack(bundle: Any, built: Path, emulator: Any) -> Any:
    """A stack with a queue for GPUs."""
    text, found = re.subn(r"(Name: GRAMIAN_COMPUTE\s+Value:) cupy\b", r"\1 numpy", built.read_text())
    assert found == 1
    # Beside the original, which names its files by their place.
    template = built.with_name(f"gpu-{secrets.token_hex(4)}.yaml")
    template.write_text(text)
    there = {"GpuImage": "none", "SubnetIds": "subnet-1", "SecurityGroupIds": "sg-1"}
    return bundle.deploy(template, "gramian-gpu", emulator.environment, **there)


@pytest.fixture
def client(stack: Any, emulator: Any, nats_server: Any) -> Iterator[Client]:
    """Of a user with a federation whose work goes to a GPU."""
    made = Client(stack.url, CID, stack.create_user(CID, emulator.environment), timeout_s=60)
    made.create_federation(PID, nats_hosts=nats_server.url, fed_local_type="gpu", **FED)
    yield made
    made.delete_project(PID)


class Queue:
    """The stack's Batch queue."""

    def __init__(self, batch: Any, name: str) -> None:
        self._batch, self._name = batch, name

    def jobs(self) -> list[dict[str, Any]]:
        """All that it ever had, as Batch describes them."""
        listed = self._batch.list_jobs(jobQueue=self._name)["jobSummaryList"]
        ids = [job["jobId"] for job in listed]
        return self._batch.describe_jobs(jobs=ids)["jobs"] if ids else []

    def settle(self, count: int) -> None:
        """Wait until there have been so many jobs, and none is under way."""
        deadline = time.monotonic() + WITHIN_S
        while (ended := [job["status"] for job in self.jobs()]) != ["SUCCEEDED"] * count:
            assert "FAILED" not in ended
            assert time.monotonic() < deadline, ended
            time.sleep(0.2)


def test_work_of_a_node_with_a_gpu_is_done_by_batch_jobs_under_the_templates_roles(
    stack, client, aws: Callable[[str], Any], used_actions, tmp_path
) -> None:
    """A sync, a due pulse, a learn of more than 1 MiB and an upload are one job each; a small learn is none."""
    queue = Queue(aws("batch"), f"{stack.name}-gpu")
    client.learn(PID, NAMES, "CC", SMALL)
    assert queue.jobs() == []

    ask_about(client, "1")  # in vain: for the functions to be warm when there is such a job
    number = client.request("GET", f"/fedml/{PID}/fullSyncRequest").job_id
    assert number == "1"
    assert ask_about(client, number) == [number]
    client.wait_for_job(number)
    queue.settle(1)
    assert client.sync_stats(PID)["sndCount"] == 1

    client.start_pulse(PID)
    queue.settle(2)
    client.stop_pulse(PID)

    client.learn(PID, NAMES, "CC", LARGE)
    queue.settle(3)
    file = tmp_path / "rows.csv"
    file.write_text("x,y\n" + "".join(f"{x!r},{y!r}\n" for x, y in LARGE[:FILE_ROWS].tolist()))
    client.learn_file(PID, file)
    queue.settle(4)

    client.sync(PID)
    queue.settle(5)
    found = client.project_info(PID)["params"]
    assert found["local_rows"] == found["fed_rows"] == str(len(SMALL) + len(LARGE) + FILE_ROWS)
    assert client.error_log(PID) == []
    assert len({job["jobName"] for job in queue.jobs()}) == 1, "all of a node's jobs have one name"

    used = used_actions(stack)
    assert {"batch:SubmitJob"} <= set.intersection(*(used[name] for name in SUBMITTING))
    assert {"batch:DescribeJobs"} <= set.intersection(*(used[name] for name in ASKING))
    assert used["GpuJob"] == ON_MACHINE


def ask_about(client: Client, number: str) -> list[str]:
    """Ask how a job stands in every way there is; returns the numbers of those under way."""
    for method in ("DELETE", "GET"):
        with suppress(ClientError):
            client.request(method, f"/jobs/{number}")
    return [str(job["jobId"]) for job in client.jobs() if not job["isDone"]]
