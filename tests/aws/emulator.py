"""The AWS emulator of the tests: ministack, and what its CloudFormation and Batch lack.

Run by `.venv-aws/bin/python`, never imported: it sets its environment before it imports ministack. Additions:
`AWS::Batch::*` in templates, jobs that really run (as processes, with what a container would see of its environment),
TerminateJob, the resources of Batch's and schedules' permissions, a table's TimeToLiveSpecification, the routes of an
HTTP API's Body, and a list of what roles were allowed and used (`actions.jsonl`).

Not as on AWS: requests count as sent over TLS, or policies that ask for it would refuse everything; a function's
Runtime is ignored, jobs share this machine's files, and SubmitJob asks for permission on the queue only, not on the
job definition too.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import ctypes
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
KEY_ID = SECRET_KEY = "test"
REGION = "us-east-1"
TERMINATION_GRACE_S = 30

Props = dict[str, Any]
Handler = Callable[..., Any]


def main() -> None:
    options = parsed()
    if options.with_parent:
        end_with_parent(options.with_parent)
    if os.getpgrp() == os.getpid():
        # Workers of functions and jobs are in this group: none outlives the emulator.
        atexit.register(lambda: os.killpg(0, signal.SIGKILL))
    os.environ.update(environment(options.port, options.directory))
    add_permissions(options.directory / "actions.jsonl")  # before anything imports what it replaces
    from ministack.app import main as serve

    add_batch(options.directory / "jobs")
    add_table_ttl()
    add_body_routes()
    share_layers(options.directory / "layers")
    sys.argv = sys.argv[:1]
    serve()


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Emulate AWS on a loopback port until SIGTERM.")
    parser.add_argument("--port", type=int, default=4566)
    parser.add_argument("--directory", type=Path, required=True, help="for everything it writes")
    parser.add_argument(
        "--with-parent", type=int, metavar="PID", help="end when that process, the parent, ends (Linux)"
    )
    return parser.parse_args()


def end_with_parent(parent: int) -> None:
    """However the parent ends, this process is told to: nothing must be left behind by a killed test run."""
    if sys.platform == "linux":
        set_death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the parent is gone")


def environment(port: int, directory: Path) -> dict[str, str]:
    """What makes ministack listen on loopback only, enforce IAM policies and write nowhere else."""
    temporary = directory / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    return {
        "BIND_HOST": HOST,
        "MINISTACK_HOST": "localhost",
        "GATEWAY_PORT": str(port),
        "LAMBDA_EXECUTOR": "local",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "AUTH": "true",
        "TMPDIR": str(temporary),
        "STATE_DIR": str(directory / "state"),
        "S3_DATA_DIR": str(directory / "s3"),
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "LOG_LEVEL": os.environ.get("LOG_LEVEL", "WARNING"),
    }


def handlers() -> dict[str, dict[str, Any]]:
    """ministack's CloudFormation resource types, to be added to."""
    from ministack.services.cloudformation import provisioners

    found: dict[str, dict[str, Any]] = provisioners._RESOURCE_HANDLERS
    return found


# Permissions


def add_permissions(record: Path) -> None:
    """Loopback counts as TLS; each action that a role is allowed is noted once in `record`."""
    from ministack.core import iam_actions, iam_evaluator

    pin, evaluate = iam_evaluator.pin_request_origin, iam_evaluator.evaluate
    plain = iam_actions.extract_resource_arn
    seen: set[tuple[str, str]] = set()

    def noting(context: Any, *policies: Any) -> Any:
        result = evaluate(context, *policies)
        used = (context.principal_arn, context.action)
        if result.decision == "Allow" and context.principal_type == "AssumedRole" and used not in seen:
            seen.add(used)
            with record.open("a") as file:
                file.write(json.dumps({"role": used[0], "action": used[1]}) + "\n")
        return result

    iam_evaluator.pin_request_origin = lambda address, _secure: pin(address, True)
    iam_evaluator.evaluate = noting
    iam_actions.extract_resource_arn = lambda *request: in_its_group(plain(*request), *request)
    tags = iam_actions.request_tag_context
    iam_actions.request_tag_context = lambda *request: {**tags(*request), **about_subscription(*request)}


def about_subscription(_service: str, action: str, _body: bytes, params: Props) -> Props:
    """The condition keys of sns:Subscribe, which ministack does not know."""
    if action != "sns:Subscribe":
        return {}
    given = {f"sns:{name}": params.get(name, "") for name in ("Protocol", "Endpoint")}
    return {key: value[0] if isinstance(value, list) else value for key, value in given.items()}


def in_its_group(arn: str, _service: str, _method: str, _path: str, _headers: Props, body: bytes, *rest: Any) -> str:
    """A schedule's ARN names its group, which is not always the default one."""
    if ":schedule/default/" not in arn:
        return arn
    in_query = rest[0].get("groupName", "")
    asked = in_query[0] if isinstance(in_query, list) else in_query
    group = asked or (json.loads(body).get("GroupName") if body else "") or "default"
    return arn.replace(":schedule/default/", f":schedule/{group}/")


# Lambda


def share_layers(directory: Path) -> None:
    """Unpack each layer once; ministack would for every process of a function, and remove it file by file."""
    from ministack.core import lambda_runtime

    lock = threading.Lock()
    directory.mkdir(parents=True, exist_ok=True)

    class LayerFile(zipfile.ZipFile):
        def extractall(self, path: Any = None, *rest: Any) -> None:
            file = Path(str(self.filename))
            if not file.name.startswith("layer_"):
                super().extractall(path, *rest)
                return
            place = directory / hashlib.sha256(file.read_bytes()).hexdigest()
            with lock:
                if not place.exists():
                    super().extractall(f"{place}.part")
                    Path(f"{place}.part").rename(place)
            Path(path).rmdir()
            Path(path).symlink_to(place)

    lambda_runtime.zipfile = types.SimpleNamespace(
        ZipFile=LayerFile, BadZipFile=zipfile.BadZipFile, LargeFileError=zipfile.LargeZipFile
    )


# AWS::DynamoDB::Table and AWS::ApiGatewayV2::Api


def add_table_ttl() -> None:
    from ministack.services import dynamodb

    def set_ttl(name: str, props: Props) -> None:
        if ttl := props.get("TimeToLiveSpecification"):
            dynamodb._update_ttl({"TableName": name, "TimeToLiveSpecification": ttl})

    follow("AWS::DynamoDB::Table", set_ttl)


def add_body_routes() -> None:
    """SAM writes an HTTP API's routes into the Body, an OpenAPI document."""
    from ministack.services import apigateway

    def set_routes(api_id: str, props: Props) -> None:
        if "Body" not in props:
            return
        apigateway._routes[api_id], apigateway._integrations[api_id] = {}, {}
        for path, methods in props["Body"].get("paths", {}).items():
            for method, operation in methods.items():
                if integration := operation.get("x-amazon-apigateway-integration"):
                    add_route(api_id, route_key(path, method), integration)

    follow("AWS::ApiGatewayV2::Api", set_routes)


def route_key(path: str, method: str) -> str:
    if path.lstrip("/") == "$default":
        return "$default"
    return f"{'ANY' if method == 'x-amazon-apigateway-any-method' else method.upper()} {path}"


def add_route(api_id: str, key: str, integration: Props) -> None:
    target, _ = handlers()["AWS::ApiGatewayV2::Integration"]["create"](
        "",
        {
            "ApiId": api_id,
            "IntegrationType": integration["type"].upper(),
            "IntegrationUri": integration["uri"],
            "IntegrationMethod": integration.get("httpMethod", "POST"),
            "PayloadFormatVersion": integration.get("payloadFormatVersion", "2.0"),
        },
        "",
    )
    route = {"ApiId": api_id, "RouteKey": key, "Target": f"integrations/{target}"}
    handlers()["AWS::ApiGatewayV2::Route"]["create"]("", route, "")


def follow(resource_type: str, then: Callable[[str, Props], None]) -> None:
    """Call `then(physical id, properties)` after every creation and update of a resource."""
    handler = handlers()[resource_type]
    create, update = handler["create"], handler["update"]

    def creating(logical_id: str, props: Props, stack: str) -> Any:
        made = create(logical_id, props, stack)
        then(made[0], props)
        return made

    def updating(physical_id: str, old: Props, new: Props, *rest: Any) -> Any:
        made = update(physical_id, old, new, *rest)
        then(made[0], new)
        return made

    handler.update(create=creating, update=updating)


# AWS::Batch


def add_batch(logs: Path) -> None:
    from ministack.core import iam_actions
    from ministack.services import batch

    for resource_type, (create, update, delete) in batch_resources().items():
        handlers()[f"AWS::Batch::{resource_type}"] = {"create": create, "update": update, "delete": delete}
    jobs = Jobs(logs)
    batch._DISPATCH.update({"/v1/submitjob": jobs.submit, "/v1/terminatejob": jobs.terminate})
    plain = iam_actions.extract_resource_arn

    def with_batch(service: str, method: str, path: str, headers: Props, body: bytes, *rest: Any) -> str:
        if service == "batch":
            return batch_resource(body)
        found: str = plain(service, method, path, headers, body, *rest)
        return found

    iam_actions.extract_resource_arn = with_batch


def batch_resource(body: bytes) -> str:
    """The ARN that permission is needed on: the queue of a new job, or the job."""
    from ministack.services import batch

    request = json.loads(body or b"{}")
    if queue := request.get("jobQueue"):
        return str(queue) if queue.startswith("arn:") else str(batch._jq_arn(queue))
    return str(batch._job_arn(request["jobId"])) if "jobId" in request else "*"


def batch_resources() -> dict[str, tuple[Handler, Handler, Handler]]:
    """How each type is created, updated and deleted."""
    from ministack.services import batch

    def change_environment(physical_id: str, old: Props, new: Props, stack: str) -> tuple[str, Props]:
        answered(batch._update_compute_environment({**camel(new), "computeEnvironment": physical_id}))
        return physical_id, {"ComputeEnvironmentArn": physical_id}

    def keep_queue(physical_id: str, old: Props, new: Props, stack: str) -> tuple[str, Props]:
        return physical_id, {"JobQueueArn": physical_id}

    make_environment = maker(batch._create_compute_environment, "computeEnvironmentName", "computeEnvironmentArn")
    make_queue = maker(batch._create_job_queue, "jobQueueName", "jobQueueArn")
    return {
        "ComputeEnvironment": (make_environment, change_environment, forgetter(batch._compute_envs)),
        "JobQueue": (make_queue, keep_queue, forgetter(batch._job_queues)),
        "JobDefinition": (define_job, redefine_job, deactivate_job),
    }


def maker(call: Handler, name: str, arn: str) -> Handler:
    def create(logical_id: str, props: Props, stack: str) -> tuple[str, Props]:
        made = answered(call(named(props, name, logical_id, stack)))[arn]
        return made, {arn[:1].upper() + arn[1:]: made}

    return create


def forgetter(records: Any) -> Handler:
    return lambda physical_id, props: records.pop(physical_id.split("/")[-1], None)


def define_job(logical_id: str, props: Props, stack: str) -> tuple[str, Props]:
    return registered(named(props, "jobDefinitionName", logical_id, stack))


def redefine_job(physical_id: str, old: Props, new: Props, stack: str) -> tuple[str, Props]:
    return registered({**camel(new), "jobDefinitionName": job_name(physical_id)})


def registered(props: Props) -> tuple[str, Props]:
    """Another revision; ministack keeps less of it than jobs need."""
    from ministack.services import batch

    arn = answered(batch._register_job_definition(props))["jobDefinitionArn"]
    batch._job_definitions[props["jobDefinitionName"]][-1].update(props)
    return arn, {}


def deactivate_job(physical_id: str, props: Props) -> None:
    from ministack.services import batch

    for revision in batch._job_definitions.get(job_name(physical_id), []):
        revision["status"] = "INACTIVE"


def job_name(arn: str) -> str:
    return arn.split("/")[-1].split(":")[0]


def named(props: Props, name: str, logical_id: str, stack: str) -> Props:
    from ministack.services.cloudformation import provisioners

    return {name: provisioners._physical_name(stack, logical_id, max_len=64), **camel(props)}


def camel(value: Any) -> Any:
    """A template's `ComputeResources` as the API's `computeResources`; names that users chose stay."""
    if isinstance(value, list):
        return [camel(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key[:1].lower() + key[1:]: each if key in ("Tags", "Parameters") else camel(each) for key, each in value.items()
    }


def answered(response: Any) -> Props:
    status, _, body = response[:3]
    document: Props = json.loads(body)
    if status >= 300:
        raise ValueError(document.get("message") or str(document))
    return document


class Jobs:
    """Batch jobs as processes: queued for no time, run once, with the environment of their definition only."""

    def __init__(self, logs: Path) -> None:
        """Each job's output goes to `logs`/<job id>.log."""
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._ended: dict[str, str] = {}
        """Why a job was ended from outside."""

    def submit(self, request: Props) -> Any:
        from ministack.services import batch

        definition = self._definition(request.get("jobDefinition", ""))
        if request.get("jobQueue", "").split("/")[-1] not in batch._job_queues or definition is None:
            wanted = f"{request.get('jobQueue')}, {request.get('jobDefinition')}"
            return batch.error_response_json("ClientException", f"no such job queue or job definition: {wanted}", 400)
        response = batch._submit_job(request)
        record = batch._jobs[answered(response)["jobId"]]
        record.update(
            status="STARTING", statusReason="", stoppedAt=None, container={}, parameters=request.get("parameters", {})
        )
        # Read here: the account and region are those of this request, which threads do not inherit.
        command, variables = launch(definition, request, record["jobId"])
        record["container"] = {"command": command}
        threading.Thread(target=self._run, args=(record, command, variables, definition), daemon=True).start()
        return response

    def terminate(self, request: Props) -> Any:
        """SIGTERM to the job's processes, and SIGKILL 30 s later, as Batch does."""
        from ministack.services import batch

        job_id = request.get("jobId", "")
        if job_id not in batch._jobs:
            return batch.error_response_json("ClientException", f"Job {job_id} not found", 404)
        self._end(job_id, request.get("reason", ""))
        return batch._json(200, {})

    def _definition(self, ref: str) -> Props | None:
        """By name (the newest active revision), `name:revision` or ARN."""
        from ministack.services import batch

        name, _, revision = ref.split("/")[-1].partition(":")
        found = [
            each
            for each in batch._job_definitions.get(name, [])
            if each["status"] == "ACTIVE" and revision in ("", str(each["revision"]))
        ]
        return found[-1] if found else None

    def _run(self, record: Props, command: list[str], variables: dict[str, str], definition: Props) -> None:
        job_id = record["jobId"]
        self._logs.mkdir(parents=True, exist_ok=True)
        with (self._logs / f"{job_id}.log").open("wb") as log:
            try:
                process = subprocess.Popen(command, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            except OSError as error:
                record.update(status="FAILED", statusReason=f"CannotStartContainerError: {error}", stoppedAt=now_ms())
                return
            self._running[job_id] = process
            record.update(status="RUNNING", startedAt=now_ms())
            try:
                process.wait((definition.get("timeout") or {}).get("attemptDurationSeconds"))
            except subprocess.TimeoutExpired:
                self._end(job_id, "Job attempt duration exceeded timeout")
                process.wait()
        del self._running[job_id]
        self._finish(record, process.returncode)

    def _finish(self, record: Props, returncode: int) -> None:
        ended = self._ended.pop(record["jobId"], None)
        # A process ended by signal N leaves a container with exit code 128 + N.
        record["container"]["exitCode"] = returncode if returncode >= 0 else 128 - returncode
        record["statusReason"] = "Essential container in task exited" if ended is None else ended
        record["stoppedAt"] = now_ms()
        record["status"] = "SUCCEEDED" if returncode == 0 and ended is None else "FAILED"

    def _end(self, job_id: str, reason: str) -> None:
        process = self._running.get(job_id)
        if process is None:
            return
        self._ended[job_id] = reason
        process.terminate()

        def insist() -> None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(TERMINATION_GRACE_S)
                return
            process.kill()

        threading.Thread(target=insist, daemon=True).start()


def launch(definition: Props, request: Props, job_id: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a job's container: nothing of this process's environment but where programs are."""
    container, overrides = definition.get("containerProperties", {}), request.get("containerOverrides", {})
    parameters = {**definition.get("parameters", {}), **request.get("parameters", {})}
    given = overrides.get("command") or container.get("command", [])
    command = [re.sub(r"^Ref::(\w+)$", lambda ref: parameters.get(ref[1], ref[0]), word) for word in given]
    chosen = [*container.get("environment", []), *overrides.get("environment", [])]
    variables = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    variables |= {each["name"]: each["value"] for each in chosen}
    variables |= credentials(container.get("jobRoleArn", ""))
    return command, variables | {
        "AWS_BATCH_JOB_ID": job_id,
        "AWS_BATCH_JQ_NAME": request["jobQueue"].split("/")[-1],
        "AWS_ENDPOINT_URL": f"http://{HOST}:{os.environ['GATEWAY_PORT']}",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
    }


def credentials(role: str) -> dict[str, str]:
    """A session of the job's role, so that its policies are enforced; a job without one may do nothing on AWS."""
    from ministack.services import sts

    if not role:
        return {}
    seed = hashlib.sha256(f"batch:{role}".encode()).hexdigest()
    key_id, secret, token = f"ASIA{seed[:16].upper()}", seed[16:56], seed[24:]
    account, name = role.split(":")[4], role.split("/")[-1]
    session = {
        "Arn": f"arn:aws:sts::{account}:assumed-role/{name}/batch",
        "UserId": f"{name}:batch",
        "SecretAccessKey": secret,
        "SessionToken": token,
    }
    sts.register_session(key_id, session)
    return {"AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": token}


def now_ms() -> int:
    return int(time.time() * 1000)


if __name__ == "__main__":
    main()
