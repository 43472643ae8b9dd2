"""The stores as a node opens them: by name, with options from the environment, and at little cost."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid

import pytest

from gramian import plugins
from gramian.errors import PluginError
from gramian.ports import ABSENT, Put
from gramian.settings import Settings
from gramian.testing.state import race
from gramian_aws import clients


@pytest.fixture
def configured(emulator, table_name, bucket, monkeypatch):
    """Settings of a node in a function."""
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    return Settings.from_env({"GRAMIAN_DYNAMODB_TABLE": table_name, "GRAMIAN_S3_BUCKET": bucket})


def test_stores_are_opened_by_name(configured):
    """From nothing but environment variables."""
    state = plugins.make("state", "dynamodb", configured)
    tokens = plugins.make("tokens", "dynamodb", configured)
    blobs = plugins.make("blobs", "s3", configured)
    name = uuid.uuid4().hex
    state.write(Put(name, "key", b"value", ABSENT))
    assert state.get(name, "key").value == b"value"
    assert tokens.claim(name, b"value", now=time.time(), expires_at=time.time() + 60) is None
    assert blobs.get(name, blobs.put(name, b"value")) == b"value"
    # In one table, and yet a claim is no item of a partition of its name.
    assert tokens.claim(f"state:{name}", b"", now=time.time(), expires_at=time.time() + 60) is None
    assert [key for key, _ in state.query(name)] == ["key"]
    for store in (state, tokens, blobs):
        store.close()


@pytest.mark.parametrize(
    ("kind", "name", "variable"),
    [
        ("state", "dynamodb", "GRAMIAN_DYNAMODB_TABLE"),
        ("tokens", "dynamodb", "GRAMIAN_DYNAMODB_TABLE"),
        ("blobs", "s3", "GRAMIAN_S3_BUCKET"),
    ],
)
def test_missing_option_is_named(kind, name, variable):
    """Before anything is asked of AWS."""
    with pytest.raises(PluginError, match=f"{variable} is missing"):
        plugins.make(kind, name, Settings.from_env({}))


def test_missing_region_says_what_to_set(monkeypatch):
    """When the client is made."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(PluginError, match="set AWS_REGION"):
        clients.client("dynamodb")


def test_all_threads_share_one_client_per_service(configured):
    """However many ask at once."""
    made = race(16, lambda _: clients.client("dynamodb"))
    assert len({id(client) for client in made}) == 1
    assert clients.client("s3") is not made[0]


def test_opening_stores_imports_no_sdk():
    """A function pays for botocore when it first talks to AWS, and never for boto3, numpy or the upload manager."""
    code = """
import sys
from gramian import plugins
from gramian.settings import Settings
settings = Settings.from_env({"GRAMIAN_DYNAMODB_TABLE": "t", "GRAMIAN_S3_BUCKET": "b"})
for kind, name in (("state", "dynamodb"), ("tokens", "dynamodb"), ("blobs", "s3")):
    plugins.make(kind, name, settings)
assert not {"botocore", "boto3", "numpy", "s3transfer"} & set(sys.modules)
from gramian_aws import clients
clients.make("dynamodb", region_name="us-east-1")
assert not {"boto3", "numpy", "s3transfer"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
