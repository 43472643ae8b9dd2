"""The bundle, built by sam and deployed twice to the emulator: two organisations, each with a stack of its own.

The first has a stage that prefixes every path, the second the template's default, which has none.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gramian.client import Client
from gramian.settings import Settings

ROOT = Path(__file__).parents[3]
ORGANISATIONS = ("alpha", "beta")
NODE_VARIABLES = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_REGION")


@dataclass(frozen=True)
class Organisation:
    """A stack, its user's client, and a NATS of both."""

    name: str
    stack: Any
    client: Client
    secret_key: str

    @property
    def url(self) -> str:
        return self.stack.url

    def settings(self) -> Settings:
        return Settings.from_env(self.stack.environment)


def loaded(path: Path) -> ModuleType:
    """A module that is in no package."""
    spec = importlib.util.spec_from_file_location(f"loaded_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def events() -> ModuleType:
    """functions/events.py."""
    return loaded(ROOT / "functions" / "events.py")


@pytest.fixture(scope="session")
def lambda_runtime() -> ModuleType:
    """tests/aws/lambda_runtime.py."""
    module = loaded(ROOT / "tests" / "aws" / "lambda_runtime.py")
    if not module.PYTHON.exists():
        pytest.skip("no runtime client here: run `make .venv-lambda/.ready`")
    return module


@pytest.fixture(scope="session")
def bundle() -> ModuleType:
    """tests/aws/bundle.py, which is a program too."""
    module = loaded(ROOT / "tests" / "aws" / "bundle.py")
    if not module.SAM.exists():
        pytest.skip("no sam here: run `make .venv-sam/.ready`")
    if f"{module.RUNTIME}," not in (ROOT / "template.yaml").read_text().replace("]", ","):
        pytest.skip(f"the bundle has no runtime {module.RUNTIME}")
    return module


@pytest.fixture(scope="session")
def built(bundle: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built template, made once for all test processes of this run."""
    directory = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        directory = directory.parent
    return bundle.build(directory / "bundle")


@pytest.fixture(scope="session")
def organisations(bundle: ModuleType, built: Path, emulator) -> list[Organisation]:
    """Two stacks on one emulator that enforces their policies."""
    made = []
    for name in ORGANISATIONS:
        stage = bundle.UNPREFIXED if made else bundle.PREFIXED
        stack = bundle.deploy(built, f"gramian-{name}", emulator.environment, stage)
        key = stack.create_user(name, emulator.environment)
        made.append(Organisation(name, stack, Client(stack.url, name, key, timeout_s=60), key))
    return made


@pytest.fixture
def aws(bundle: ModuleType, emulator) -> Callable[[str], Any]:
    """Clients of the emulator's services, as the account's root."""
    return lambda service: bundle.client(service, emulator.environment)


@pytest.fixture
def used_actions(emulator, aws: Callable[[str], Any]) -> Callable[..., dict[str, set[str]]]:
    """By logical id, without the `Role` at its end: the actions that roles of these stacks were allowed so far."""

    def used(*stacks: Any) -> dict[str, set[str]]:
        names = {name: logical_id for stack in stacks for name, logical_id in logical_ids(aws, stack).items()}
        found: dict[str, set[str]] = {}
        for line in (emulator.directory / "actions.jsonl").read_text().splitlines():
            entry = json.loads(line)
            logical_id = names.get(entry["role"].split("/")[1], "")
            found.setdefault(logical_id.removesuffix("Role"), set()).add(entry["action"])
        return found

    return used


def logical_ids(aws: Callable[[str], Any], stack: Any) -> dict[str, str]:
    """By physical id."""
    resources = aws("cloudformation").describe_stack_resources(StackName=stack.name)["StackResources"]
    return {each["PhysicalResourceId"]: each["LogicalResourceId"] for each in resources}


@pytest.fixture
def on_emulator(emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nodes of this process use the emulator's services."""
    from gramian_aws import clients

    for name in NODE_VARIABLES:
        monkeypatch.setenv(name, emulator.environment[name])
    before = dict(clients._clients)
    clients._clients.clear()
    yield
    clients._clients.clear()
    clients._clients.update(before)
