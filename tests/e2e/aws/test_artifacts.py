"""What sam built: how large it is, how fast it starts, and that each function brings all that it needs."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[3]
FIXED_CLOCK = ROOT / "tests" / "aws" / "fixed_clock"
MB = 10**6
STARTS = 15
IMPORT_RATIO = 0.7
# A function's own import, and that of the libraries that it cannot do without.
FUNCTION = "import handler"
LIBRARIES = "import flask, boto3; boto3.client('dynamodb', region_name='us-east-1')"
TIMED = "import sys, time; started = time.process_time(); {}; print(time.process_time() - started)"

# What events cannot have without a second node or a file that has arrived.
REFUSED = {
    "refuse_unknown": 404,
    "learn_upload": 400,
    "delete_upload": 400,
    "redeem_invitation": 400,
    "join_federation": 400,
    "evict_peer": 400,
    "leave_federation": 400,
}


def layers_of(built: Path) -> dict[str, list[Path]]:
    """By logical id of a function: the folders of its layers, as the built template names them."""
    template = built.read_text()
    loader = type("Loader", (yaml.SafeLoader,), {})
    loader.add_multi_constructor("!", lambda _loader, suffix, node: {suffix: getattr(node, "value", None)})
    document = yaml.load(template, loader)

    def named(layers: list[Any]) -> list[Path]:
        return [built.parent / str(layer["Ref"]) for layer in layers]

    common = named(document["Globals"]["Function"]["Layers"])
    return {
        name: common + named(each["Properties"].get("Layers", []))
        for name, each in document["Resources"].items()
        if each["Type"] == "AWS::Serverless::Function"
    }


def size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / MB


def test_functions_are_far_from_the_limits_of_lambda(built: Path) -> None:
    """250 MB unzipped with all layers, and 60 without numpy."""
    for name, layers in layers_of(built).items():
        total = size_mb(built.parent / name) + sum(map(size_mb, layers))
        assert total < (60 if len(layers) == 1 else 250), f"{name}: {total:.0f} MB"


def test_layers_carry_bytecode_that_no_time_stamp_outdates(built: Path) -> None:
    """Packing changes times; what Python does not trust it would compile at every cold start."""
    layer = built.parent / "LightLayer" / "python"
    modules = list(layer.rglob("*.py"))
    assert len(modules) > 500
    for module in modules:
        compiled = Path(importlib.util.cache_from_source(str(module)))
        assert compiled.exists(), module
        flags = int.from_bytes(compiled.read_bytes()[4:8], "little")
        assert flags == 0b01, f"{compiled}: not by hash, or checked"


def test_light_layer_has_neither_numpy_nor_anything_for_tests(built: Path) -> None:
    """What a federation's function cannot import it cannot be slowed down by."""
    names = {path.name for path in (built.parent / "LightLayer" / "python").iterdir()}
    assert {"gramian", "gramian_aws", "gramian_nats", "flask", "botocore", "nats"} <= names
    assert not names & {"numpy", "scipy", "pytest", "pip", "waitress", "bin"}


def test_federation_function_imports_faster_than_the_libraries_it_stands_on(built: Path, lambda_runtime) -> None:
    """Against flask and boto3 with one client, in turns in one run, bytecode on both sides. By the processor's time:
    the clock's is shared with other tests."""
    layer = built.parent / "LightLayer" / "python"
    seconds: dict[str, list[float]] = {FUNCTION: [], LIBRARIES: []}
    for _ in range(STARTS):
        for code, times in seconds.items():
            times.append(import_s(lambda_runtime.PYTHON, built.parent / "GetFederation", layer, code))
    best = {code: min(times) for code, times in seconds.items()}
    assert best[FUNCTION] < IMPORT_RATIO * best[LIBRARIES], best


def import_s(python: Path, folder: Path, layer: Path, code: str) -> float:
    env = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": os.pathsep.join((str(folder), str(layer))),
        "PYTHONDONTWRITEBYTECODE": "1",
        "POWERTOOLS_SERVICE_NAME": "test",
        "POWERTOOLS_METRICS_NAMESPACE": "test",
    }
    done = subprocess.run([python, "-c", TIMED.format(code)], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_every_handler_runs_on_its_event_in_a_bare_environment(
    built: Path, organisations, events, lambda_runtime, nats_server, emulator, aws
) -> None:
    """Under Lambda's own runtime client, with its layers and nothing else, by the clock of its event."""
    stack = organisations[0].stack
    stack.create_user(events.CID, emulator.environment, "--secret-key", events.SECRET_KEY)
    found = layers_of(built)
    resources = aws("cloudformation").describe_stack_resources(StackName=stack.name)["StackResources"]
    physical = {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in resources}
    clock = {"FIXED_TIME_S": str(events.FIXED_TIME_S)}
    made = events.events(nats_url=nats_server.url)
    wrong = []
    with clock_set(aws, physical["Pulse"], clock), clock_set(aws, physical["RunJob"], clock):
        for name in in_order(made):
            logical_id = "".join(word.capitalize() for word in name.split("_"))
            about = aws("lambda").get_function_configuration(FunctionName=physical[logical_id])
            path = [FIXED_CLOCK, *(layer / "python" for layer in found[logical_id])]
            variables = {
                **about["Environment"]["Variables"],
                **emulator.environment,
                **clock,
                "PYTHONPATH": os.pathsep.join(map(str, path)),
            }
            with lambda_runtime.running(name, built.parent / logical_id, found[logical_id], variables) as runtime:
                answer = settled(runtime, made[name])
            if answer.failed or not is_expected(name, answer.value):
                wrong.append(f"{name}: {json.dumps(answer.value)[:400]}")
    assert not wrong, "\n".join(wrong)


@contextmanager
def clock_set(aws: Any, name: str, clock: dict[str, str]) -> Iterator[None]:
    """Of a function that handlers start: what one writes must not have expired for the other."""
    functions = aws("lambda")
    before = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    changed = {**before, **clock, "PYTHONPATH": str(FIXED_CLOCK)}
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": changed})
    yield
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": before})


def in_order(made: dict[str, Any]) -> list[str]:
    """The web's first, each function in the background when there is something for it."""
    names = [name for name, event in made.items() if "version" in event]
    names.insert(names.index("build_model") + 1, "run_job")
    names.insert(names.index("start_pulse") + 1, "pulse")
    return [*names, "tidy_up"]


def settled(runtime: Any, event: Any) -> Any:
    """The answer; asked again while it says that something is under way. Only what reads may be asked again."""
    deadline = time.monotonic() + 60
    while True:
        answer = runtime.invoke(event)
        pending = not answer.failed and answer.value and answer.value.get("statusCode") == 202
        is_read = event.get("requestContext", {}).get("http", {}).get("method") == "GET"
        if not (pending and is_read and "/jobs/" in event["rawPath"]) or time.monotonic() > deadline:
            return answer
        time.sleep(0.5)


def is_expected(name: str, value: Any) -> bool:
    if value is None:
        return name in ("run_job", "pulse", "tidy_up")
    status = value["statusCode"]
    return status == REFUSED[name] if name in REFUSED else status in (200, 201, 202)
