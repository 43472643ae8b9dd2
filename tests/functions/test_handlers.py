"""Handlers as modules: light, and each of one endpoint only."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gramian.settings import Settings

ROOT = Path(__file__).parents[2]
FUNCTIONS = ROOT / "functions"
IMPORT_ALL = """
import importlib.util, json, pathlib, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[2].split(","):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
for path in sys.argv[1].split(","):
    spec = importlib.util.spec_from_file_location("handler", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert callable(module.handler), path
print(json.dumps(sorted(sys.modules)))
"""


def layers_of(name: str) -> str:
    """What the template says of a function: its own lines."""
    camel = "".join(word.capitalize() for word in name.split("_"))
    found = re.search(rf"^  {camel}:\n(.*?)\n\n", (ROOT / "template.yaml").read_text(), re.DOTALL | re.MULTILINE)
    return found[1]


def light_handlers() -> list[Path]:
    """Those whose functions have no numpy."""
    return [
        path for path in sorted(FUNCTIONS.glob("*/handler.py")) if "NumericLayer" not in layers_of(path.parent.name)
    ]


def imported(handlers: list[Path], *blocked: str) -> set[str]:
    """Modules in a process that has imported these handlers and could not import what is blocked."""
    env = {"PATH": "/usr/bin:/bin", "POWERTOOLS_SERVICE_NAME": "test", "POWERTOOLS_METRICS_NAMESPACE": "test"}
    command = [sys.executable, "-c", IMPORT_ALL, ",".join(map(str, handlers)), ",".join(blocked)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_functions_without_numpy_are_the_federations_and_more() -> None:
    """All under /fedml, though a sync computes: the function `pulse` does that."""
    names = {path.parent.name for path in light_handlers()}
    family = {
        path.parent.name for path in FUNCTIONS.glob("*/handler.py") if 'endpoint("federation.' in path.read_text()
    }
    assert family <= names
    assert {"create_project", "get_project", "get_job", "delete_project"} <= names


def test_light_handlers_import_without_numpy() -> None:
    """Nor do they import what costs a cold start before it is needed: NATS, AWS, X.509."""
    modules = imported(light_handlers(), "numpy", "scipy", "nats", "botocore", "boto3")
    assert "gramian_aws.function" in modules
    assert "cryptography.x509" not in modules


def test_all_handlers_import() -> None:
    """In a process that has everything."""
    assert "gramian_aws.tidying" in imported(sorted(FUNCTIONS.glob("*/handler.py")))


@pytest.fixture
def context() -> Any:
    return SimpleNamespace(
        function_name="test",
        memory_limit_in_mb=128,
        invoked_function_arn="arn:aws:lambda:us-east-1:000000000000:function:test",
        aws_request_id="1",
        get_remaining_time_in_millis=lambda: 20_000,
    )


@pytest.fixture
def function(monkeypatch: pytest.MonkeyPatch) -> Any:
    """gramian_aws.function over a node in memory, whose user is the events' own and whose clock is theirs."""
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "test")
    import logging

    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    from gramian_aws import function

    yield function
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture
def served(function, events, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Answers an event by the handler of an endpoint."""
    from gramian.usecases import users
    from gramian_local.node import opened

    with opened(Settings(), tmp_path / "home") as (node, _):
        node = dataclasses.replace(node, clock=lambda: float(events.FIXED_TIME_S))
        users.create(node, events.CID, events.SECRET_KEY)
        monkeypatch.setattr(function, "node", lambda: node)
        yield lambda endpoint, event, context: function.endpoint(endpoint)(event, context)


def words(answer: dict[str, Any]) -> tuple[int, str]:
    return answer["statusCode"], json.loads(answer["body"])["statusString"]


def test_handler_answers_its_endpoint_below_a_stage(served, events, context) -> None:
    """The event's path begins with /prod, which no signature covers."""
    answer = served("projects.create", events.events()["create_project"], context)
    assert words(answer) == (201, "Project Created with id:trial")
    assert answer["headers"]["Cache-Control"] == "no-store"


def test_handler_refuses_other_endpoints_of_its_blueprint(served, events, context) -> None:
    """Though they are signed well, and the blueprint has them: this function may not do their work."""
    answer = served("projects.info", events.events()["create_project"], context)
    assert words(answer) == (404, "there is no such endpoint on this server")


def test_what_no_route_fits_is_answered_in_the_contracts_words(function, events, context) -> None:
    """404 for what is not there, 404 that says so for what is to come, 405 for the wrong method."""
    handler = function.no_endpoint()
    unknown = events.events()["refuse_unknown"]
    assert words(handler(unknown, context)) == (404, "there is no such endpoint on this server")
    planned = {**unknown, "rawPath": "/prod/symetry/rest/clinic/projects/p/vif"}
    assert words(handler(planned, context)) == (404, "this endpoint is not available yet")
    wrong = {**unknown, "rawPath": "/prod/symetry/rest/clinic/fedml/create"}
    assert words(handler(wrong, context)) == (405, "this endpoint answers POST only")


def test_description_names_all_endpoints_though_its_function_serves_none_of_them(function, events, context) -> None:
    """GET /openapi.json, below a stage too."""
    answer = function.public_endpoint("openapi.serve")(events.events()["get_openapi"], context)
    assert answer["statusCode"] == 200
    assert "/symetry/rest/{cid}/fedml/create" in json.loads(answer["body"])["paths"]


def test_path_that_holds_another_root_is_not_taken_for_it(served, events, context) -> None:
    """A project may be called as another endpoint."""
    request = events.Request("GET", "/projects/openapi.json")
    event = events._event(request, events.CID, events.SECRET_KEY, events.FIXED_TIME_S * 10**9 + 600)
    assert words(served("projects.delete", event, context)) == (405, "this endpoint answers DELETE only")


def test_percent_encoded_path_is_checked_as_it_was_sent(served, events, context) -> None:
    """Clients escape what others leave as it is; the signature covers the text, and the route its meaning."""
    request = events.Request("GET", "/projects/tri%61l/info")
    served("projects.create", events.events()["create_project"], context)
    event = events._event(request, events.CID, events.SECRET_KEY, events.FIXED_TIME_S * 10**9 + 500)
    assert served("projects.info", event, context)["statusCode"] == 200


def test_addresses_in_answers_begin_with_the_stage(served, events, context) -> None:
    """Clients follow them as they are."""
    served("projects.create", events.events()["create_project"], context)
    served("projects.learn", events.events()["learn_rows"], context)
    answer = served("models.build", events.events()["build_model"], context)
    assert answer["headers"]["Location"] == f"https://{events.HOST}/prod/symetry/rest/clinic/jobs/1"


@pytest.mark.parametrize("stage", ["prod", "symetry", "symetryml"])
def test_invitation_leads_back_through_the_stage(served, function, events, context, monkeypatch, stage: str) -> None:
    """Whatever the stage is called: the joiner's node calls the address as it stands."""
    from gramian.domain import sealing
    from gramian.usecases.federation import found

    made = dataclasses.replace(function.node(), settings=Settings(transports=("memory",)))
    monkeypatch.setattr(function, "node", lambda: made)
    place = {"fed_name": "study", "sync_sched": "d1", "memory_space": stage}
    found.create(made, events.CID, "study", place, persist=True)
    monkeypatch.setattr(events, "STAGE", stage)
    answer = served("federation.get_invitation", events.events()["invite_peer"], context)
    sealed = json.loads(answer["body"])["values"]["fedInfoEncrypted"]
    opened, _ = sealing.open_invitation(sealed.encode(), "a long password")
    assert json.loads(opened)["fed_rest_url"].startswith(
        f"https://{events.HOST}/{stage}/symetry/rest/clinic/fedml/study/"
    )


def test_answer_that_lambda_would_not_pass_on_is_refused_in_words(
    served, function, events, context, monkeypatch
) -> None:
    """Predictions take more room than their rows: a request within its limit may have an answer beyond Lambda's."""
    assert not function._is_too_large("x" * (function.MAX_ANSWER_BYTES - 2))
    assert function._is_too_large("x" * function.MAX_ANSWER_BYTES)
    assert function._is_too_large('"' * (function.MAX_ANSWER_BYTES // 2))
    monkeypatch.setattr(function, "MAX_ANSWER_BYTES", 60)
    status, text = words(served("projects.listed", events.events()["list_projects"], context))
    assert (status, "ask for less at a time" in text) == (413, True)


def test_body_beyond_the_limit_is_refused_with_the_way_for_large_files(served, events, context, monkeypatch) -> None:
    """413 that names the limit and the endpoint for uploads."""
    event = events.events()["learn_rows"]
    event = {**event, "body": event["body"] + " " * 2**26}
    status, text = words(served("projects.learn", event, context))
    assert status == 413
    assert "/uploads" in text


def test_node_that_cannot_be_put_together_answers_503_and_logs_why(function, events, context, monkeypatch) -> None:
    """A missing permission or setting is the operator's to mend: the caller learns nothing of it."""
    from gramian.errors import PluginError

    def broken() -> Any:
        raise PluginError("GRAMIAN_DYNAMODB_TABLE is missing")

    monkeypatch.setattr(function, "node", broken)
    answer = function.endpoint("projects.info")(events.events()["get_project"], context)
    assert words(answer) == (503, "this node is not set up as it must be; its log says what to do")
    assert "DYNAMODB" not in answer["body"]


def test_each_run_has_a_life_that_ends_with_its_time_limit(function, context, served) -> None:
    """Jobs and leases that a run leaves behind are free as soon as it must have ended."""
    import time

    from gramian_aws.identity import deadline_of

    other = SimpleNamespace(**{**vars(context), "aws_request_id": "2"})
    first, second = (function._living_until(function.node(), each).instance for each in (context, other))
    assert first != second
    assert 15 < deadline_of(first) - time.time() < 25
    assert "/" not in first


def test_repeated_event_takes_up_the_job_of_the_attempt_that_died(function, context, served) -> None:
    """At once: Lambda repeats an event long before the time limit of the attempt that died has passed."""
    from gramian.usecases import job_records, jobs
    from gramian_aws.identity import AwsIdentity

    made = dataclasses.replace(function.node(), instance_alive=AwsIdentity("arn", 900).alive)
    later = SimpleNamespace(**{**vars(context), "get_remaining_time_in_millis": lambda: 80_000})
    stranger = SimpleNamespace(**{**vars(later), "aws_request_id": "2"})
    died, again, other = (function._living_until(made, each) for each in (context, later, stranger))
    job = jobs.Job("sync", died.instance, 0, pid="deleted", is_started=True)
    made.state.write(*job_records.first_writes(made, "someone", 1, job))
    jobs.execute(other, "someone", 1)
    assert not jobs.find(other, "someone", 1).is_done
    jobs.execute(again, "someone", 1)
    assert jobs.find(again, "someone", 1).is_done
