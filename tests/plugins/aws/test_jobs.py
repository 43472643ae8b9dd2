"""Job runners on AWS keep the contract of all job runners, as far as it is about jobs that run elsewhere."""

from __future__ import annotations

import io
import json
import secrets
import time
import zipfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from gramian.ports import ABSENT
from gramian.testing.jobs import JobRunnerContract
from gramian.usecases import job_records, records
from gramian_aws import clients
from gramian_aws.batch import BatchJobRunner, name_of
from gramian_aws.lambda_jobs import LambdaJobRunner
from gramian_local.state import SqliteStateStore

NOTE = """
import json, os, pathlib, uuid
def handler(event, context):
    place = pathlib.Path(os.environ["EVENTS"], uuid.uuid4().hex)
    place.with_suffix(".new").write_text(json.dumps(event))
    place.with_suffix(".new").rename(place.with_suffix(".json"))
"""
TRUST = {
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]
}
SLEEP = ["python", "-c", "import time; time.sleep(20)"]


@pytest.fixture
def aws(emulator: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Clients of this process, which reach the emulator."""
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    return clients.client


@pytest.fixture
def nowhere(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process reaches a server that never answers."""
    names = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
    for name, value in {**names, "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": silent}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def function(aws: Callable[[str], Any], tmp_path: Path) -> str:
    """One that leaves its events as files in `tmp_path`/events."""
    (tmp_path / "events").mkdir()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr("app.py", NOTE)
    name = f"run-job-{secrets.token_hex(4)}"
    role = aws("iam").create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]
    aws("lambda").create_function(
        FunctionName=name,
        Runtime="python3.11",
        Role=role["Arn"],
        Handler="app.handler",
        Code={"ZipFile": archive.getvalue()},
        Environment={"Variables": {"EVENTS": str(tmp_path / "events")}},
    )
    return name


@pytest.fixture
def queue(aws: Callable[[str], Any]) -> Iterator[str]:
    """The name of a queue and of a definition of jobs that take a while; whatever still runs is ended."""
    name = f"jobs-{secrets.token_hex(4)}"
    container = {"Image": "none", "Command": SLEEP, "JobRoleArn": {"Fn::GetAtt": ["Role", "Arn"]}}
    definition = {"JobDefinitionName": name, "Type": "container", "Parameters": {"cid": "", "pid": ""}}
    order = [{"Order": 1, "ComputeEnvironment": {"Ref": "Machines"}}]
    machines = {"Type": "MANAGED", "ComputeResources": {"Type": "EC2", "MinvCpus": 0, "MaxvCpus": 4}}
    document = {
        "Resources": {
            "Role": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": TRUST}},
            "Machines": {"Type": "AWS::Batch::ComputeEnvironment", "Properties": machines},
            "Queue": {
                "Type": "AWS::Batch::JobQueue",
                "Properties": {"JobQueueName": name, "Priority": 1, "ComputeEnvironmentOrder": order},
            },
            "Job": {
                "Type": "AWS::Batch::JobDefinition",
                "Properties": {**definition, "ContainerProperties": container},
            },
        }
    }
    stacks = aws("cloudformation")
    stacks.create_stack(StackName=name, TemplateBody=json.dumps(document), Capabilities=["CAPABILITY_IAM"])
    stacks.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 300})
    yield name
    stacks.delete_stack(StackName=name)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[SqliteStateStore]:
    store = SqliteStateStore(tmp_path / "state.db")
    yield store
    store.close()


@pytest.fixture
def recorded(state: SqliteStateStore) -> Callable[[], tuple[str, int]]:
    """Makes records of jobs of a project."""
    numbers = count(1)

    def record() -> tuple[str, int]:
        number = next(numbers)
        job = job_records.Job("gpu_pulse", "", int(time.time() * 1000), pid="study")
        state.write(records.put(job_records.partition("contract"), job_records.key(number), job, ABSENT))
        return "contract", number

    return record


class TestLambda(JobRunnerContract):
    """A function is started."""

    @pytest.fixture
    def runner(self, function: str) -> LambdaJobRunner:
        return LambdaJobRunner(function, waiting_s=60)

    @pytest.fixture
    def unreachable(self, nowhere: None) -> LambdaJobRunner:
        return LambdaJobRunner("run-job", waiting_s=60)

    def test_started_function_is_told_which_job(self, runner: LambdaJobRunner, tmp_path: Path) -> None:
        """Its user and its number."""
        runner.submit("clinic", 7, lambda: None)
        self._eventually(lambda: list((tmp_path / "events").glob("*.json")) != [])
        (file,) = (tmp_path / "events").glob("*.json")
        assert json.loads(file.read_text()) == {"cid": "clinic", "number": 7}


class TestBatch(JobRunnerContract):
    """A job waits in a queue."""

    @pytest.fixture
    def runner(self, queue: str, state: SqliteStateStore) -> Iterator[BatchJobRunner]:
        batch = clients.client("batch")
        yield BatchJobRunner(queue, queue, lambda: state)
        for status in ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING"):
            for job in batch.list_jobs(jobQueue=queue, jobStatus=status)["jobSummaryList"]:
                batch.terminate_job(jobId=job["jobId"], reason="the test is over")

    @pytest.fixture
    def new_job(self, recorded: Callable[[], tuple[str, int]]) -> Callable[[], tuple[str, int]]:
        return recorded

    @pytest.fixture
    def unreachable(self, nowhere: None, state: SqliteStateStore) -> BatchJobRunner:
        return BatchJobRunner("queue", "definition", lambda: state)

    def test_job_bears_the_name_of_its_project(self, runner: BatchJobRunner, new_job: Any) -> None:
        """And parameters from which its container finds it."""
        handle = runner.submit(*new_job(), lambda: None)
        (job,) = clients.client("batch").describe_jobs(jobs=[handle])["jobs"]
        assert job["jobName"] == name_of("contract", "study")
        assert job["parameters"] == {"cid": "contract", "pid": "study"}

    def test_job_that_nobody_knows_any_more_has_failed(self, runner: BatchJobRunner) -> None:
        """Batch forgets jobs after a while: it will never end well."""
        assert "submit it again" in runner.failure("00000000-0000-0000-0000-000000000000")
