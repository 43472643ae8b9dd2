"""After a whole life of a federation: what its functions were allowed they have used, and no secret has got out."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from gramian.client import BadRequest
from gramian_local.nats_server import NatsServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[3]
NAMES = ["dose", "age", "weight", "response"]
WIDE = [f"x{number}" for number in range(45)]
PASSWORD = "a password that must not be logged"
NATS_PASSWORD = "a NATS password that must not be logged"
SECRET_VALUE = 7391846.5028317
"""Of a row: no sum or coefficient looks like it."""
SAYS_NO_MORE = {
    # By policy: what may lie idle wherever the policy is held.
    ("MayServe", "dynamodb:Query"): "reads the same items as GetItem",
    ("MayChange", "dynamodb:UpdateItem"): "who may put may change; for an Idempotency-Key",
    ("MayChange", "dynamodb:DeleteItem"): "who may put may empty, which is no less",
    ("MayReadBlobs", "s3:ListBucket"): "for what is missing, S3 asks for it by itself; the emulator does not",
    ("MayKeepBlobs", "s3:ListBucket"): "as for MayReadBlobs, and for what a deleted project has left",
    ("MayReadUploads", "s3:ListBucket"): "as for MayReadBlobs",
    ("MayKeepBlobs", "s3:AbortMultipartUpload"): "where the upload of a large blob breaks off",
    ("MaySchedulePulses", "iam:PassRole"): "EventBridge Scheduler asks for it with both calls; the emulator does not",
}
MAY_LIE_IDLE = {
    # Needed where two of a node's calls meet, or where one was cut short.
    ("ListJobs", "dynamodb:PutItem"): "a job whose process died is noted as failed by whoever looks",
    ("GetJob", "dynamodb:PutItem"): "as for ListJobs",
    ("ListJobs", "s3:DeleteObject"): "and frees the body of its request",
    ("GetJob", "s3:DeleteObject"): "as for ListJobs",
    ("DeleteJob", "s3:DeleteObject"): "as for ListJobs",
    ("ForgetRows", "lambda:InvokeFunction"): "async=true, as learn_rows shows",
    ("Pulse", "scheduler:DeleteSchedule"): "a schedule that outlived its project, or an evicted node's",
    ("RunJob", "lambda:InvokeFunction"): "a job that runs out of its function's time goes on in another",
    ("TidyUp", "dynamodb:PutItem"): "a project that is first seen pulsing here, and those that were not to be kept",
    ("TidyUp", "s3:DeleteObject"): "what was not to be kept, a day later, and calls that were cut short",
    ("TidyUp", "scheduler:CreateSchedule"): "test_bundle shows how it mends a schedule that was deleted",
    ("TidyUp", "scheduler:UpdateSchedule"): "and one that was changed",
    ("TidyUp", "scheduler:DeleteSchedule"): "with a project that was not to be kept",
}


@pytest.fixture(scope="module")
def life(organisations, emulator, bundle, tmp_path_factory) -> set[str]:
    """Everything that users do, once; returns all secrets that were in play."""
    login = f'authorization {{ user: study, password: "{NATS_PASSWORD}" }}'
    with NatsServer.start(tmp_path_factory.mktemp("nats"), config=login) as nats:
        return lived(organisations, nats.url, emulator, bundle, tmp_path_factory.mktemp("files"))


def lived(organisations: list[Any], nats_url: str, emulator: Any, bundle: Any, files: Path) -> set[str]:
    pid, known = f"life{secrets.token_hex(3)}", {PASSWORD, NATS_PASSWORD, str(SECRET_VALUE)}
    admin, peer = organisations
    rng = np.random.default_rng(5)
    rows, wide = rng.normal(size=(200, 4)), rng.normal(size=(2, len(WIDE)))
    rows[::10, 1] = wide[1, 2] = SECRET_VALUE
    for each, share in ((admin, rows[:80]), (peer, rows[80:])):
        known.add(each.secret_key)
        master = bundle.client("secretsmanager", emulator.environment)
        known.add(master.get_secret_value(SecretId=each.stack.outputs["MasterKeyArn"])["SecretString"])
        each.client.create_project(f"{pid}own")
        each.client.create_project(f"{pid}wide")
        each.client.learn(f"{pid}own", NAMES, "CCCC", share)
        for number in range(34):  # enough batches, and large enough ones, to be folded
            each.client.learn(f"{pid}wide", WIDE, "C" * len(WIDE), wide + number)
        each.client.forget(f"{pid}wide", WIDE, "C" * len(WIDE), wide)
    known |= federate(admin, peer, nats_url, pid, rows)
    use(admin, peer, pid)
    for each in organisations:
        tidy_up(bundle.client("lambda", emulator.environment), each)
    part(admin, peer, pid)
    upload(admin, f"{pid}own", files)
    for each in (peer, admin):
        each.client.delete_project(pid)
        each.client.delete_project(f"{pid}own")
        each.client.delete_project(f"{pid}wide")
    return known


def federate(admin: Any, peer: Any, nats_url: str, pid: str, rows: np.ndarray) -> set[str]:
    keys = {"fed_name": "life", "sync_sched": "d1", "nats_stream_max_memory": 2**24, "fed_encrypt": True}
    login = {"nats_hosts": nats_url, "nats_sec_user": "study", "nats_sec_passwd": NATS_PASSWORD}
    admin.client.create_federation(pid, **keys, **login)
    invitation = admin.client.invite(pid, PASSWORD, admin.url)
    peer.client.join(pid, invitation)
    for each, part in ((admin, rows[:80]), (peer, rows[80:])):
        frame = {"attributeNames": NAMES, "attributeTypes": list("CCCC"), "data": part.astype(str).tolist()}
        job = each.client.request("POST", f"/projects/{pid}/learn", {"async": True}, body=frame).job_id
        each.client.wait_for_job(job)
        each.client.start_pulse(pid)
        each.client.start_pulse(pid)
    for each in (admin, peer, admin, peer):
        each.client.sync(pid)
    assert admin.client.project_info(pid)["params"]["fed_rows"] == "200"
    return {invitation["fed_secret_key"], invitation["fed_req_token"]}


def use(admin: Any, peer: Any, pid: str) -> None:
    admin.client.build(pid, "fit", "response")
    assert admin.client.model(pid, "fit")
    admin.client.predict(pid, "fit", NAMES[:3], [[1.0, SECRET_VALUE, 3.0]])
    admin.client.delete_model(pid, "fit")
    number = admin.client.jobs()[0]["jobId"]
    assert admin.client.job(str(number)).is_done
    admin.client.request("DELETE", f"/jobs/{number}")
    admin.client.new_schedule(pid, "d2")
    for each in (admin, peer):
        each.client.set_explore_peers(pid, allow=False)
        each.client.set_transport(pid, nats_req_timeout=25)
        assert pid in each.client.projects()
        assert each.client.federation_info(pid)
        each.client.error_log(pid)
        each.client.clear_error_log(pid)
        assert each.client.sync_log(pid)
        assert each.client.sync_stats(pid)
    with pytest.raises(BadRequest, match="no member"):
        admin.client.evict(pid, "ab" * 16)
    evicted = next(id_ for id_ in json.loads(admin.client.project_info(pid)["params"]["fed_peers"]))
    with pytest.raises(BadRequest):
        admin.client.evict(pid, evicted + "0")
    account = {"aws_access_key": "AKIAIOSFODNN7EXAMPLE", "aws_secret_key": PASSWORD, "aws_region": "us-east-1"}
    for path in ("/fedml/awsinfo", f"/fedml/{pid}/awsinfo"):
        assert admin.client.request("POST", path, sealed=account).job_id


def tidy_up(functions: Any, organisation: Any) -> None:
    pages = functions.get_paginator("list_functions").paginate()
    names = [each["FunctionName"] for page in pages for each in page["Functions"]]
    name = next(name for name in names if name.startswith(f"{organisation.stack.name}-TidyUp"))
    assert "FunctionError" not in functions.invoke(FunctionName=name, Payload=b"{}")


def part(admin: Any, peer: Any, pid: str) -> None:
    """News once more, which replace what was published before; then the peer goes."""
    for each in (admin, peer):
        each.client.learn(pid, NAMES, "CCCC", np.random.default_rng(6).normal(size=(50, 4)))
        each.client.sync(pid)
    peer.client.stop_pulse(pid)
    peer.client.leave(pid)


def upload(admin: Any, pid: str, directory: Path) -> None:
    """One is sent by the presigned address and learned, another one is given up."""
    file = directory / "rows.csv"
    file.write_text("\n".join([",".join(NAMES), *[f"1.5,{SECRET_VALUE},3.5,4.5"] * 20]))
    admin.client.learn_file(pid, file)
    query = {"format": "csv", "size": "100"}
    about = admin.client.request("POST", f"/projects/{pid}/uploads", query).mapping("upload")
    path = f"/projects/{pid}/uploads/{about['id']}"
    with pytest.raises(BadRequest, match="not arrived"):
        admin.client.request("POST", f"{path}/learn")
    admin.client.request("DELETE", path)


def test_every_permission_of_a_function_is_used_or_has_a_reason(life, organisations, used_actions) -> None:
    """The emulator notes what roles do; an action that a function may do and never did is one too many."""
    used = used_actions(*(each.stack for each in organisations))
    policies, functions = declared()
    needed, held = set(), set()
    for function, names in functions.items():
        for policy in names:
            held |= {(function, action) for action in policies[policy]}
            needed |= {(function, action) for action in policies[policy] if (policy, action) not in SAYS_NO_MORE}
    idle = {(function, action) for function, action in needed if action not in used.get(function, set())}
    assert not sorted(idle - set(MAY_LIE_IDLE))
    assert set(MAY_LIE_IDLE) <= held, "a reason for what is not allowed"
    assert set(SAYS_NO_MORE) <= {(policy, action) for policy, actions in policies.items() for action in actions}


def declared() -> tuple[dict[str, set[str]], dict[str, list[str]]]:
    """Actions by policy, and policies by function, without those of a GPU, which these stacks do not have."""
    loader = type("Loader", (yaml.SafeLoader,), {})
    loader.add_multi_constructor("!", lambda _loader, suffix, node: getattr(node, "value", None))
    resources = yaml.load((ROOT / "template.yaml").read_text(), loader)["Resources"]

    def actions(policy: Any) -> set[str]:
        allowed = [each for each in policy["PolicyDocument"]["Statement"] if each["Effect"] == "Allow"]
        named = [each["Action"] for each in allowed]
        return {action for each in named for action in (each if isinstance(each, list) else [each])}

    policies = {
        name: actions(each["Properties"])
        for name, each in resources.items()
        if each["Type"] == "AWS::IAM::ManagedPolicy" and "Condition" not in each
    }
    functions = {
        name: [policy for policy in each["Properties"].get("Policies", []) if isinstance(policy, str)]
        for name, each in resources.items()
        if each["Type"] == "AWS::Serverless::Function"
    }
    return policies, functions


def test_no_secret_is_in_logs_metrics_environments_or_template(life, organisations, aws) -> None:
    """Keys, passwords, tokens, invitations and addresses to upload to, of a whole life; and no value of a row."""
    time.sleep(2)  # the last lines
    texts = {"logs and metrics": logged(aws), "environments": environments(aws)}
    for each in organisations:
        template = aws("cloudformation").get_template(StackName=each.stack.name, TemplateStage="Processed")
        texts[f"template of {each.name}"] = json.dumps(template["TemplateBody"], default=str)
    assert "RequestId" in texts["logs and metrics"]
    assert "GRAMIAN_DYNAMODB_TABLE" in texts["environments"]
    for place, text in texts.items():
        assert not [secret[:6] for secret in life if secret in text], place
    assert not re.search(r"gramian\.v2\.|FEDTOKEN|BEGIN .*PRIVATE KEY|X-Amz-Signature", texts["logs and metrics"])


def logged(aws: Callable[[str], Any]) -> str:
    """All that functions said, metrics among it: they are lines of the log."""
    logs, lines = aws("logs"), []
    for group in logs.describe_log_groups()["logGroups"]:
        name = group["logGroupName"]
        for stream in logs.describe_log_streams(logGroupName=name)["logStreams"]:
            got = logs.get_log_events(logGroupName=name, logStreamName=stream["logStreamName"], startFromHead=True)
            lines += [event["message"] for event in got["events"]]
    return "\n".join(lines)


def environments(aws: Callable[[str], Any]) -> str:
    pages = aws("lambda").get_paginator("list_functions").paginate()
    return json.dumps([each.get("Environment") for page in pages for each in page["Functions"]])
