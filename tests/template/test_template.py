"""The bundle's template: every endpoint has its function, and no function may do more than it has to."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml

from gramian import plugins
from gramian.http.app import all_blueprints, bare_app
from gramian.options import variable
from gramian.settings import VARIABLES, Settings

ROOT = Path(__file__).parents[2]
SAM = ROOT / ".venv-sam" / "bin" / "sam"
TEXT = (ROOT / "template.yaml").read_text()
API_WAITS_S = 30
EVENT_BYTES = 6_291_556
"""Lambda's limit of what it passes on to a function that is waited for."""
HEADERS_BYTES = 10_240
"""The most that HTTP APIs take in a request's line and headers."""
MAX_POLICIES = 10
"""Of a role, those counted that SAM adds: for logs, traces, and a VPC."""


class Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms: `!Ref X` as {"Ref": "X"}, `!Sub x` as {"Fn::Sub": "x"}."""


def _short_form(loader: Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", _short_form)
TEMPLATE = yaml.load(TEXT, Loader)  # (its Loader is a SafeLoader)
RESOURCES = TEMPLATE["Resources"]
GLOBALS = TEMPLATE["Globals"]["Function"]


def of_type(kind: str) -> dict[str, dict[str, Any]]:
    return {name: each["Properties"] for name, each in RESOURCES.items() if each["Type"] == kind}


FUNCTIONS = of_type("AWS::Serverless::Function")
MANAGED = of_type("AWS::IAM::ManagedPolicy")
BACKGROUND = {"Pulse", "RunJob", "TidyUp"}


def folder(function: dict[str, Any]) -> str:
    return function["CodeUri"].removeprefix("functions/").rstrip("/")


def camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def routes(function: dict[str, Any]) -> set[tuple[str, str]]:
    """(method, path) of its events; ("", "") for the route of what no other fits."""
    events = [each["Properties"] for each in function.get("Events", {}).values() if each["Type"] == "HttpApi"]
    return {(each.get("Method", ""), each.get("Path", "")) for each in events}


def endpoint_of(name: str) -> str:
    """The endpoint that a handler serves; empty for none."""
    found = re.search(r'endpoint\("([a-z_.]+)"\)', (ROOT / "functions" / name / "handler.py").read_text())
    return found[1] if found else ""


def served() -> dict[str, set[tuple[str, str]]]:
    """Endpoint to (method, path) in the template's spelling, as the application has them."""
    found: dict[str, set[tuple[str, str]]] = {}
    for rule in bare_app(all_blueprints()).url_map.iter_rules():
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            path = re.sub("<([^>]+)>", r"{\1}", rule.rule)
            found.setdefault(rule.endpoint, set()).add((method, path))
    return found


def policies(function: dict[str, Any]) -> list[str]:
    names = []
    for each in function.get("Policies", []):
        names.append(each["Ref"] if "Ref" in each else each["Fn::If"][1]["Ref"])
    return names


@pytest.mark.slow
def test_template_passes_lint() -> None:
    """`sam validate --lint`, which needs neither network nor credentials."""
    if not SAM.exists():
        pytest.skip("no sam here: run `make .venv-sam/.ready`")
    done = subprocess.run(
        [SAM, "validate", "--lint", "--region", "us-east-1", "--template-file", ROOT / "template.yaml"],
        env={"PATH": "/usr/bin:/bin", "SAM_CLI_TELEMETRY": "0", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_endpoint_has_one_function_with_its_routes_and_no_others() -> None:
    """Template, handlers and the application's URL map say the same."""
    deployed = {
        endpoint_of(folder(function)): routes(function)
        for name, function in FUNCTIONS.items()
        if name not in BACKGROUND | {"RefuseUnknown"}
    }
    assert deployed == served()


def test_what_no_route_fits_has_a_function_too() -> None:
    """So that clients get the contract's envelope for it."""
    assert routes(FUNCTIONS["RefuseUnknown"]) == {("", "")}


def test_functions_are_named_like_their_folders() -> None:
    """CreateFederation is in functions/create_federation."""
    assert {camel(folder(function)): folder(function) for function in FUNCTIONS.values()} == {
        name: folder(function) for name, function in FUNCTIONS.items()
    }
    handlers = {path.parent.name for path in (ROOT / "functions").glob("*/handler.py")}
    assert handlers == {folder(function) for function in FUNCTIONS.values()}


@pytest.mark.parametrize("path", sorted((ROOT / "functions").glob("*/handler.py")), ids=lambda path: path.parent.name)
def test_handler_holds_no_logic(path: Path) -> None:
    """A docstring, an import, and what to serve."""
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    assert len(lines) <= 5


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_is_limited_traced_and_logged(name: str) -> None:
    """What the globals do not say, it says itself."""
    function = {**GLOBALS, **FUNCTIONS[name]}
    assert function["Tracing"] == "Active"
    assert function["LoggingConfig"]["LogGroup"] == {"Ref": "FunctionLogs"}
    assert 128 <= function["MemorySize"] <= 3008
    limit_s = API_WAITS_S - 1 if routes(FUNCTIONS[name]) else 900
    assert 0 < function["Timeout"] <= limit_s


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_is_watched_by_alarms(name: str) -> None:
    """Those behind the API by its 5xx, which count errors, time-outs and throttles; others by alarms of their own."""
    alarms = of_type("AWS::CloudWatch::Alarm").values()
    if routes(FUNCTIONS[name]):
        watched = [alarm for alarm in alarms if alarm["Dimensions"] == [{"Name": "ApiId", "Value": {"Ref": "Api"}}]]
        assert [alarm["MetricName"] for alarm in watched] == ["5xx"]
        assert watched[0]["Threshold"] == 1, "one that is seldom called would never reach more"
    else:
        own = [alarm for alarm in alarms if alarm["Dimensions"] == [{"Name": "FunctionName", "Value": {"Ref": name}}]]
        assert {alarm["MetricName"] for alarm in own} == {"Errors", "Throttles"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_names_only_permissions_of_the_template(name: str) -> None:
    """No policies of AWS's or SAM's own, no statements in between, and no more than a role can hold."""
    names = policies(FUNCTIONS[name])
    assert set(names) <= set(MANAGED)
    assert len(names) == len(set(names))
    added_by_sam = 2 + ("VpcConfig" in FUNCTIONS[name])
    assert len(names) + added_by_sam <= MAX_POLICIES


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in BACKGROUND])
def test_function_that_only_reads_may_write_nothing(name: str) -> None:
    """By the mark of its view; those that look at jobs note which ones have died."""
    endpoint = endpoint_of(folder(FUNCTIONS[name]))
    view = bare_app(all_blueprints()).view_functions.get(endpoint)
    allowed = set(policies(FUNCTIONS[name]))
    if endpoint in ("", "openapi.serve"):
        assert allowed == set()
    elif hasattr(view, "gramian_read_only") and not endpoint.startswith("jobs."):
        assert allowed <= {"MayServe", "MayReadBlobs"}
    else:
        assert {"MayServe", "MayChange"} <= allowed


@pytest.mark.parametrize("name", of_type("AWS::CloudWatch::Alarm"))
def test_alarm_reaches_the_operator(name: str) -> None:
    """If there is an address."""
    (action,) = of_type("AWS::CloudWatch::Alarm")[name]["AlarmActions"]
    assert action["Fn::If"][:2] == ["HasAlarmEmail", {"Ref": "Alarms"}]


def test_events_given_up_are_kept() -> None:
    """What nobody waits for ends in a queue that raises an alarm."""
    for name in ("Pulse", "RunJob"):
        target = FUNCTIONS[name]["EventInvokeConfig"]["DestinationConfig"]["OnFailure"]["Destination"]["Fn::GetAtt"]
        assert target in ("FailedPulses.Arn", "FailedJobs.Arn")
    watched = {
        alarm["Dimensions"][0]["Value"]["Fn::GetAtt"].split(".")[0]
        for alarm in of_type("AWS::CloudWatch::Alarm").values()
        if alarm["Namespace"] == "AWS/SQS"
    }
    assert watched == set(of_type("AWS::SQS::Queue")) == {"FailedPulses", "FailedJobs"}


def test_age_of_the_last_good_pulse_raises_an_alarm() -> None:
    """Under the very name that the hourly function tells it by."""
    from gramian_aws import tidying

    alarm = of_type("AWS::CloudWatch::Alarm")["PulseAgeAlarm"]
    assert (alarm["Namespace"], alarm["MetricName"]) == ("Gramian", "PulseAge")
    assert f'tell("{alarm["MetricName"]}"' in Path(tidying.__file__).read_text()
    assert GLOBALS["Environment"]["Variables"]["POWERTOOLS_METRICS_NAMESPACE"] == alarm["Namespace"]


def statements() -> Iterator[tuple[str, dict[str, Any]]]:
    """All that anybody is allowed in the template."""
    for name, policy in MANAGED.items():
        for statement in policy["PolicyDocument"]["Statement"]:
            yield name, statement
    for name, role in of_type("AWS::IAM::Role").items():
        for policy in role.get("Policies", []):
            for statement in policy["PolicyDocument"]["Statement"]:
                yield name, statement


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_no_action_is_a_wildcard() -> None:
    """Each permission is spelled out."""
    for name, statement in statements():
        assert not [action for action in listed(statement["Action"]) if "*" in action], name


def wide_resources() -> Iterator[str]:
    """Whatever is allowed by a pattern, as the template writes it."""
    for _, statement in statements():
        if statement["Effect"] == "Allow":
            for resource in listed(statement["Resource"]):
                text = str(resource.get("Fn::Sub", "")) if isinstance(resource, dict) else resource
                if re.search(r"[*?]", text):
                    yield text


def test_resource_that_is_a_pattern_has_a_written_reason() -> None:
    """In a comment on each of its lines."""
    patterns = set(wide_resources())
    assert "*" in patterns
    lines = [line for line in TEXT.splitlines() if re.search(r"^\s+(Resource:|-) .*[*?]", line) and "Deny" not in line]
    for pattern in patterns:
        own = [line for line in lines if re.search(rf'[" ]{re.escape(pattern)}(["\s]|$)', line)]
        assert own, pattern
        assert all(re.search(r"[^{\s] # \w", line) for line in own), pattern


def objects(policy: str, action: str) -> list[str]:
    """Patterns of the keys that a policy allows an action on."""
    allowed = [each for each in MANAGED[policy]["PolicyDocument"]["Statement"] if action in listed(each["Action"])]
    texts = [resource["Fn::Sub"] for each in allowed for resource in listed(each["Resource"])]
    return [text.removeprefix("${Blobs.Arn}/") for text in texts]


@pytest.fixture
def keys() -> tuple[str, str]:
    """Of a blob, and of an upload, as the stores name them."""
    from gramian.usecases.projects.lifecycle import new_uid
    from gramian_aws.s3 import S3BlobStore
    from gramian_aws.s3_bucket import Bucket
    from gramian_aws.s3_uploads import S3UploadStore

    bucket, uid = Bucket("none"), new_uid()
    return S3BlobStore(bucket)._key(uid, "ab" * 32), S3UploadStore(bucket)._key(uid, "cd" * 16)


def test_who_reads_or_writes_blobs_cannot_reach_the_rows_in_uploads(keys: tuple[str, str]) -> None:
    """Nor the other way round: each pattern fits the keys of its own store only."""
    blob, upload = keys
    for policy, action, own, other in (
        ("MayReadBlobs", "s3:GetObject", blob, upload),
        ("MayKeepBlobs", "s3:GetObject", blob, upload),
        ("MayKeepBlobs", "s3:PutObject", blob, upload),
        ("MayDropBlobs", "s3:DeleteObject", blob, upload),
        ("MayReceiveUploads", "s3:PutObject", upload, blob),
        ("MayReadUploads", "s3:GetObject", upload, blob),
        ("MayDropUploads", "s3:DeleteObject", upload, blob),
    ):
        (pattern,) = objects(policy, action)
        assert fnmatchcase(own, pattern), policy
        assert not fnmatchcase(other, pattern), policy
    assert all(map(fnmatchcase, keys, objects("MayClearProjects", "s3:DeleteObject")))


def test_rows_are_read_by_what_learns_them_only() -> None:
    """Functions for models and small learns cannot, and the one that gives addresses can only have rows put."""
    readers = {name for name, function in FUNCTIONS.items() if "MayReadUploads" in policies(function)}
    assert readers == {"LearnUpload", "RunJob"}
    receivers = {name for name, function in FUNCTIONS.items() if "MayReceiveUploads" in policies(function)}
    assert receivers == {"CreateUpload"}
    assert set(policies(FUNCTIONS["CreateUpload"])) == {"MayServe", "MayChange", "MayReceiveUploads"}


def test_rows_of_uploads_are_kept_for_a_day_once_they_are_deleted() -> None:
    """Not for the week that other superseded objects stay; where rules overlap, S3 follows the shorter one."""
    rules = {each["Id"]: each for each in RESOURCES["Blobs"]["Properties"]["LifecycleConfiguration"]["Rules"]}
    assert rules["Uploads"]["Prefix"] == "uploads/"
    assert rules["Uploads"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
    from gramian.usecases.projects.uploads import KEEP_S

    assert rules["Uploads"]["ExpirationInDays"] * 24 * 3600 > KEEP_S, "not before nobody can learn them any more"


def test_users_are_made_by_no_function() -> None:
    """Who breaks into one cannot add an account."""
    denied = [each for name, each in statements() if name == "MayChange" and each["Effect"] == "Deny"]
    assert denied[0]["Condition"] == {"ForAnyValue:StringEquals": {"dynamodb:LeadingKeys": ["state:users"]}}
    from gramian.usecases import users

    assert users.PARTITION == "users"


def test_what_is_kept_is_encrypted_private_and_outlives_the_stack() -> None:
    """Bucket, table and master key."""
    bucket = RESOURCES["Blobs"]["Properties"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["BucketEncryption"]
    assert bucket["LifecycleConfiguration"]["Rules"]
    (refusal,) = RESOURCES["BlobsPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (refusal["Effect"], refusal["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    table = RESOURCES["Table"]["Properties"]
    assert table["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}
    assert table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"]
    for name in ("Blobs", "Table", "MasterKey"):
        assert RESOURCES[name]["DeletionPolicy"] == RESOURCES[name]["UpdateReplacePolicy"] == "Retain"


def test_environment_of_functions_holds_names_only() -> None:
    """The key itself is read from Secrets Manager, never passed."""
    for name, value in GLOBALS["Environment"]["Variables"].items():
        assert not re.search("PASSW|TOKEN$|PRIVATE|SECRET_KEY", name), name
        assert "resolve:" not in str(value)


def test_lambda_waits_as_long_as_the_node_believes() -> None:
    """A job is given up by its record when its event is by Lambda, no sooner and no hour later."""
    believed = GLOBALS["Environment"]["Variables"]
    for name, said in (("RunJob", "GRAMIAN_LAMBDA_WAITING_S"), ("Pulse", "GRAMIAN_PULSE_WAITING_S")):
        assert FUNCTIONS[name]["EventInvokeConfig"]["MaximumEventAgeInSeconds"] == int(believed[said])


@pytest.mark.parametrize("pair", ["GpuImage SubnetIds", "SubnetIds SecurityGroupIds"])
def test_parameter_that_needs_another_is_refused_without_it(pair: str) -> None:
    """By a rule, before anything is made; lists are empty if they hold an empty text."""
    given, needed = pair.split()
    of_text = {"Fn::Not": [{"Fn::Equals": [{"Ref": given}, ""]}]}
    of_list = {"Fn::Not": [{"Fn::Contains": [{"Ref": given}, ""]}]}
    (rule,) = [each for each in TEMPLATE["Rules"].values() if each["RuleCondition"] in (of_text, of_list)]
    assert rule["RuleCondition"] == (of_text if TEMPLATE["Parameters"][given]["Type"] == "String" else of_list)
    assert [each["Assert"] for each in rule["Assertions"]] == [{"Fn::Not": [{"Fn::Contains": [{"Ref": needed}, ""]}]}]
    assert all(needed in each["AssertDescription"] for each in rule["Assertions"])
    assert all(TEMPLATE["Parameters"][name]["Default"] == "" for name in (given, needed))


def test_body_at_the_limit_fits_into_an_event() -> None:
    """As JSON within JSON; of what callers really send, empty cells grow most: three characters become five."""
    limit = int(GLOBALS["Environment"]["Variables"]["GRAMIAN_BODY_LIMIT_BYTES"])
    event = json.loads((ROOT / "functions" / "learn_rows" / "event.json").read_text())
    head, row, tail = '{"attributeNames":[],"attributeTypes":[],"data":[', "[" + ",".join(['""'] * 50) + "]", "]}"
    rows = ",".join([row] * ((limit - len(head) - len(tail)) // (len(row) + 1)))
    body = head + rows + tail
    assert 0.999 * limit < len(body) <= limit
    assert len(json.dumps({**event, "body": body})) + HEADERS_BYTES < EVENT_BYTES


def test_jobs_on_a_gpu_log_to_a_group_that_forgets() -> None:
    """Batch's own group keeps everything for ever."""
    log = RESOURCES["GpuPulse"]["Properties"]["ContainerProperties"]["LogConfiguration"]
    assert log["LogDriver"] == "awslogs"
    assert log["Options"]["awslogs-group"] == {"Ref": "GpuLogs"}
    assert {each["RetentionInDays"]["Ref"] for each in of_type("AWS::Logs::LogGroup").values()} == {"LogRetentionDays"}


def test_every_gpu_resource_is_optional() -> None:
    """Without GpuImage there is no trace of a GPU."""
    named = [name for name in RESOURCES if "Gpu" in name]
    batch = [name for name, each in RESOURCES.items() if each["Type"].startswith("AWS::Batch")]
    assert set(batch) < set(named)
    assert {RESOURCES[name].get("Condition") for name in named} == {"HasGpu"}


def test_gpu_instances_scale_from_zero() -> None:
    """Nothing is paid for while no GPU job runs."""
    assert RESOURCES["GpuInstances"]["Properties"]["ComputeResources"]["MinvCpus"] == 0


def test_layers_install_what_the_package_declares() -> None:
    """Their version ranges lie within those of the extras."""
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for layer, package in (("numeric", "numpy"), ("scipy", "scipy")):
        wanted = (ROOT / "functions" / "layers" / layer / "requirements.txt").read_text().strip()
        declared = next(each for each in extras["numeric"] if each.startswith(package))
        assert bounds(declared)[0] <= bounds(wanted)[0] < bounds(wanted)[1] <= bounds(declared)[1]
    light = (ROOT / "functions" / "layers" / "light" / "requirements.txt").read_text().strip()
    assert re.fullmatch(r"\.\[[a-z,]+\]", light)


def bounds(requirement: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """`numpy>=2.1,<3` as ((2, 1), (3,))."""
    low, high = re.search(r">=([0-9.]+),<([0-9.]+)", requirement).groups()
    return tuple(map(int, low.split("."))), tuple(map(int, high.split(".")))


LEFT = {
    "GRAMIAN_AWS_LIFETIME_S": "each run's own time limit says it",
    "GRAMIAN_S3_PREFIX": "the bucket is the node's own",
    "GRAMIAN_S3_KMS_KEY": "the bucket's own encryption is meant",
    "GRAMIAN_S3_ROLE_BUCKETS": "the functions may use this bucket only; members give keys of their own",
    "GRAMIAN_S3_ROLE_TOPICS": "as the buckets",
}
"""Options that the template does not set, and why."""


def test_options_of_the_plugins_that_it_selects_are_set_or_left_for_a_reason() -> None:
    """All that an operator may want to change is in the template, and no variable there is nobody's."""
    variables = GLOBALS["Environment"]["Variables"]
    chosen = {name: value for name, value in variables.items() if isinstance(value, str)}
    settings = Settings.from_env({**chosen, "GRAMIAN_GPU_JOBS": "batch", "GRAMIAN_TRANSPORT": "nats,s3"})
    declared = {
        variable(name, option.name)
        for kind, name in plugins.selected(settings)
        for option in plugins.declared(plugins.load(kind, name), kind, name)
    }
    assert declared - set(variables) == set(LEFT)
    own = {name for name in variables if name.startswith("GRAMIAN_")}
    assert own <= declared | set(VARIABLES)
