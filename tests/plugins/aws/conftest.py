"""AWS for the stores' tests: the emulator (races), moto in this process (the rest), and a lossy line to the emulator."""

from __future__ import annotations

import itertools
import socket
import socketserver
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

from gramian_aws import clients

CREDENTIALS = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def no_other_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches the real AWS by accident, nor keeps a client of another test's."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setattr(clients, "_clients", {})


@pytest.fixture(scope="session")
def make_client() -> Callable[..., Any]:
    """A client of an emulated service at `url`, as the stores make theirs."""
    return lambda service, url=None: clients.make(service, endpoint_url=url, **CREDENTIALS)


@pytest.fixture(scope="session")
def make_table() -> Callable[[Any], str]:
    """Create a table such as the bundle's; its name."""

    def make(client: Any) -> str:
        name = f"gramian-{next(_numbers)}"
        client.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        )
        client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
        with suppress(client.exceptions.ClientError):  # not every engine knows it, and nothing relies on it
            client.update_time_to_live(
                TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": "ttl"}
            )
        return name

    return make


@pytest.fixture(scope="session")
def dynamodb(emulator: Any, make_client: Callable[..., Any]) -> Any:
    return make_client("dynamodb", emulator.url)


@pytest.fixture(scope="session")
def table_name(dynamodb: Any, make_table: Callable[[Any], str]) -> str:
    return make_table(dynamodb)


@pytest.fixture(scope="session")
def s3(emulator: Any, make_client: Callable[..., Any]) -> Any:
    return make_client("s3", emulator.url)


@pytest.fixture(scope="session")
def bucket(s3: Any) -> str:
    s3.create_bucket(Bucket="gramian-blobs")
    return "gramian-blobs"


@pytest.fixture
def moto() -> Any:
    """AWS within this process, for what no race decides."""
    from moto import mock_aws

    with mock_aws():
        yield
