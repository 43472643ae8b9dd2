"""A node on AWS whose pulses and large learns are jobs of AWS Batch: really run, as processes with what the container
would see of its environment. Numpy stands in for the GPU's compute backend, which CI has no device for."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from gramian import node as nodes
from gramian.client import Client
from gramian.node import Node
from gramian.settings import Settings
from gramian.usecases import jobs, users
from gramian.usecases.federation import gpu, pulse
from gramian.usecases.projects import lifecycle
from gramian_local import receiving

clients = pytest.importorskip("gramian_aws.clients")

NAMES = ["x", "y"]
ROWS = np.random.default_rng(0).normal(size=(60, 2))
TRUST = {
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}]
}
USED = ["dynamodb:*", "s3:*", "secretsmanager:GetSecretValue"]


@dataclass
class Cloud:
    """A node on AWS, served here, and another one whose jobs die on the way."""

    node: Node
    doomed: Node
    url: str
    client: Client

    def submitted(self) -> dict[str, Any]:
        """The last job, as Batch describes it."""
        number = max(jobs.listed(self.node, "cloud"))
        handle = jobs.find(self.node, "cloud", number).handle
        (job,) = clients.client("batch").describe_jobs(jobs=[handle])["jobs"]
        return dict(job)

    def finish(self) -> str:
        """Wait for the last job to end; its status at Batch."""
        end = time.monotonic() + 60
        while (status := self.submitted()["status"]) not in ("SUCCEEDED", "FAILED"):
            assert time.monotonic() < end, status
            time.sleep(0.1)
        return str(status)


def template(environment: dict[str, str], stack: str) -> dict[str, Any]:
    """What the bundle has for GPUs, without a network; `Doomed` jobs die in the middle of a pulse."""

    def job(name: str, **more: str) -> dict[str, Any]:
        variables = [{"Name": key, "Value": value} for key, value in {**environment, **more}.items()]
        container = {
            "Image": "none",
            "Command": ["gramian", "pulse", "--cid", "Ref::cid", "--pid", "Ref::pid"],
            "Environment": variables,
            "JobRoleArn": {"Fn::GetAtt": ["Role", "Arn"]},
        }
        properties = {"JobDefinitionName": f"{stack}-{name}", "Type": "container", "Parameters": {"cid": "", "pid": ""}}
        return {"Type": "AWS::Batch::JobDefinition", "Properties": {**properties, "ContainerProperties": container}}

    allowed = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": USED, "Resource": "*"}]}
    role = {"AssumeRolePolicyDocument": TRUST, "Policies": [{"PolicyName": "stores", "PolicyDocument": allowed}]}
    order = [{"Order": 1, "ComputeEnvironment": {"Ref": "Machines"}}]
    return {
        "Resources": {
            "Role": {"Type": "AWS::IAM::Role", "Properties": role},
            "Machines": {
                "Type": "AWS::Batch::ComputeEnvironment",
                "Properties": {"Type": "MANAGED", "ComputeResources": {"Type": "EC2", "MinvCpus": 0, "MaxvCpus": 4}},
            },
            "Queue": {
                "Type": "AWS::Batch::JobQueue",
                "Properties": {"JobQueueName": stack, "Priority": 1, "ComputeEnvironmentOrder": order},
            },
            "Pulse": job("pulse"),
            "Doomed": job("doomed", GRAMIAN_FAULTS="1", GRAMIAN_FAULT="publish.blob", GRAMIAN_AWS_LIFETIME_S="1"),
        }
    }


@pytest.fixture
def environment(emulator: Any, make_table: Callable[[Any], str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Stores for one node on AWS, and the settings that name them; this process reaches the emulator only."""
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setattr(clients, "_clients", {})
    name = f"gpu-{secrets.token_hex(4)}"
    clients.client("s3").create_bucket(Bucket=name)
    key = clients.client("secretsmanager").create_secret(Name=name, SecretString=secrets.token_hex(32))
    return {
        "GRAMIAN_IDENTITY": "aws",
        "GRAMIAN_AWS_MASTER_KEY_SECRET": key["ARN"],
        "GRAMIAN_STATE": "dynamodb",
        "GRAMIAN_TOKENS": "dynamodb",
        "GRAMIAN_DYNAMODB_TABLE": make_table(clients.client("dynamodb")),
        "GRAMIAN_BLOBS": "s3",
        "GRAMIAN_UPLOADS": "s3",
        "GRAMIAN_S3_BUCKET": name,
        "GRAMIAN_COMPUTE": "numpy",
        "OPENBLAS_NUM_THREADS": "1",
    }


@pytest.fixture
def cloud(environment: dict[str, str]) -> Iterator[Cloud]:
    stack = f"gpu-{secrets.token_hex(4)}"
    deploy(template(environment, stack), stack)
    mine = {**environment, "GRAMIAN_GPU_JOBS": "batch", "GRAMIAN_BATCH_QUEUE": stack}
    with (
        nodes.opened(Settings.from_env({**mine, "GRAMIAN_BATCH_JOB_DEFINITION": f"{stack}-pulse"})) as node,
        nodes.opened(Settings.from_env({**mine, "GRAMIAN_BATCH_JOB_DEFINITION": f"{stack}-doomed"})) as doomed,
        served(node) as url,
    ):
        yield Cloud(node, doomed, url, Client(url, "cloud", users.create(node, "cloud")))


@contextmanager
def served(node: Node) -> Iterator[str]:
    server = receiving.server_of(node, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.stop()
    thread.join(10)


def deploy(document: dict[str, Any], name: str) -> None:
    cloudformation = clients.client("cloudformation")
    cloudformation.create_stack(StackName=name, TemplateBody=json.dumps(document), Capabilities=["CAPABILITY_IAM"])
    waiter = cloudformation.get_waiter("stack_create_complete")
    waiter.wait(StackName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 300})


def jobs_of(cloud: Cloud) -> list[jobs.Job]:
    return list(jobs.listed(cloud.node, "cloud").values())


@pytest.mark.slow
def test_node_on_aws_pulses_by_batch_jobs(
    cloud: Cloud, site: Callable[..., Any], nats_server: Any, tmp_path: Any
) -> None:
    """It founds a federation with a node elsewhere; a job dies, the next goes on, a file is learned by one, and both
    nodes have the same statistics to the bit."""
    peer = site("peer")
    keys = {"fed_name": "study", "sync_sched": "m30", "nats_hosts": nats_server.url, "nats_stream_max_memory": 2**24}
    cloud.client.create_federation("study", **keys, fed_local_type="gpu")
    peer.client.join("study", cloud.client.invite("study", "password", cloud.url))
    cloud.client.learn("study", NAMES, "CC", ROWS)
    peer.client.learn("study", NAMES, "CC", ROWS + 1)

    project = lifecycle.find(cloud.node, "cloud", "study")
    assert gpu.pulse(cloud.doomed, project) == 1
    assert gpu.pulse(cloud.node, project) == 1  # one at a time, whoever asks
    assert (cloud.finish(), cloud.submitted()["container"]["exitCode"]) == ("FAILED", 137)
    assert cloud.client.sync_stats("study")["sndCount"] == 0

    cloud.client.sync("study")
    assert cloud.finish() == "SUCCEEDED"
    (skipped, line) = cloud.client.error_log("study")[-1:] + cloud.client.sync_log("study")[-1:]
    assert "the job 'gpu_pulse' on the GPU failed: its container on AWS Batch ended without a result" in skipped
    assert "exit code 137" in skipped
    assert "published 60 rows" in line

    (tmp_path / "rows.csv").write_text("x,y\n" + "".join(f"{x!r},{y!r}\n" for x, y in (ROWS * 2).tolist()))
    cloud.client.learn_file("study", tmp_path / "rows.csv")
    names = {clients.client("batch").describe_jobs(jobs=[job.handle])["jobs"][0]["jobName"] for job in jobs_of(cloud)}
    assert len(names) == 1
    for _ in range(2):
        cloud.client.sync("study")
        peer.client.sync("study")
    mine, others = (each.project_info("study")["params"] for each in (cloud.client, peer.client))
    assert mine["fed_rows"] == others["fed_rows"] == "180"
    assert mine["fed_digest"] == others["fed_digest"] != ""
    assert mine["fed_inputs"] == others["fed_inputs"]


@pytest.mark.slow
def test_job_that_cannot_be_submitted_is_in_the_error_log(cloud: Cloud, nats_server: Any) -> None:
    """The queue's name is wrong: a due pulse says so, and nothing waits."""
    keys = {"fed_name": "study", "sync_sched": "m30", "nats_hosts": nats_server.url, "nats_stream_max_memory": 2**20}
    cloud.client.create_federation("lost", **keys, fed_local_type="gpu")
    cloud.client.start_pulse("lost")
    settings = cloud.node.settings
    lost = replace(settings, environment={**settings.environment, "GRAMIAN_BATCH_QUEUE": "elsewhere"})
    with pytest.raises(Exception, match="no machine with a GPU can be had now"):
        pulse.scheduled(replace(cloud.node, settings=lost, _made={}), "cloud", "lost")
    (line,) = cloud.client.error_log("lost")
    assert "no pulse could be submitted to a GPU" in line
    assert "no such job queue" in line
    assert cloud.client.jobs() == []
