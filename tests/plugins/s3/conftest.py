"""A bucket and a topic in an emulated AWS that enforces policies, and servers that misbehave."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from gramian_s3.transport import S3Transport


@pytest.fixture
def aws(emulator: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes clients of the account's root; boto3 in this process goes nowhere else."""
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    return boto3.client


@pytest.fixture
def bucket(aws: Any) -> str:
    name = f"grm-{secrets.token_hex(6)}"
    aws("s3").create_bucket(Bucket=name)
    return name


@pytest.fixture
def topic(aws: Any) -> str:
    return aws("sns").create_topic(Name=f"grm-{secrets.token_hex(6)}")["TopicArn"]


@pytest.fixture
def options(bucket: str, topic: str) -> dict[str, str]:
    return {
        "s3_bucket": bucket,
        "aws_region": "us-east-1",
        "aws_access_key": "test",
        "aws_secret_key": "test",
        "aws_topic_arn": topic,
        "aws_req_timeout": "10",
    }


@pytest.fixture
def transport() -> Iterator[S3Transport]:
    transport = S3Transport()
    yield transport
    transport.close()


@pytest.fixture
def fed_id() -> str:
    return secrets.token_hex(16)
