"""A bucket and a topic in an emulated AWS that enforces policies, and servers that misbehave."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

from gramian_local.cli.main import cli
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
def printed_policy(bucket: str, topic: str) -> Callable[..., str]:
    """What `gramian s3 policy` prints."""

    def run(*arguments: str) -> str:
        everything = ["s3", "policy", "--bucket", bucket, "--topic", topic, *arguments]
        done = CliRunner().invoke(cli, everything, catch_exceptions=False)
        assert done.exit_code == 0
        return done.output

    return run


@pytest.fixture
def user_with(aws: Any) -> Callable[[str], dict[str, str]]:
    """The access key of a new user that has this policy and no other."""

    def make(policy: str) -> dict[str, str]:
        iam, name = aws("iam"), f"member-{secrets.token_hex(4)}"
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="federation", PolicyDocument=json.dumps(json.loads(policy)))
        made = iam.create_access_key(UserName=name)["AccessKey"]
        return {"aws_access_key": made["AccessKeyId"], "aws_secret_key": made["SecretAccessKey"]}

    return make


@pytest.fixture
def options(bucket: str, topic: str, printed_policy: Any, user_with: Any) -> dict[str, str]:
    """Of a user that may do what the documented policy of a founder says, and nothing else."""
    return {
        "s3_bucket": bucket,
        "aws_region": "us-east-1",
        **user_with(printed_policy()),
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
