"""A member with exactly the documented policy can work, and can do nothing else; the emulator enforces policies."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner

from gramian.errors import ContentMissing, InvalidRequest, TransportRefused
from gramian_local.cli.main import cli
from gramian_s3.transport import S3Link, S3Transport

MINE, THEIRS = "ab" * 16, "cd" * 16


@pytest.fixture
def admin(transport: S3Transport, options: dict[str, str], fed_id: str) -> S3Link:
    """The founder's link, and what others have published."""
    link = transport.open(options)
    link.create(fed_id, max_blob_bytes=2**20)
    link.put_roster(fed_id, b"roster", expect=None)
    link.put_head(fed_id, THEIRS, b"their head", expect=None)
    link.put_blob(fed_id, THEIRS, "01", [b"their blob"])
    return link


@pytest.fixture
def member(admin: S3Link, options: dict[str, str], fed_id: str, printed_policy: Any, user_with: Any) -> dict[str, str]:
    """The options of a member that may write what is its own."""
    return {**options, **user_with(printed_policy("--fed", fed_id, "--peer", MINE))}


def test_member_with_its_own_policy_can_do_all_that_a_member_must(
    transport: S3Transport, admin: S3Link, member: dict[str, str], fed_id: str
) -> None:
    """Read everybody's, write and free its own, hear and send nudges."""
    link, heard = transport.open(member), []
    stop = link.listen(fed_id, MINE, heard.append)
    mark = link.put_blob(fed_id, MINE, "01", [b"my blob"])
    first = link.put_head(fed_id, MINE, b"my head", expect=None)
    link.put_head(fed_id, MINE, b"my next head", expect=first)
    assert link.missing_chunks(fed_id, MINE, "01", 1, since=mark) == []
    cut = link.cut(fed_id, [MINE, THEIRS, "ef" * 16])
    assert cut.roster.data == b"roster"
    assert {peer: entry.data for peer, entry in cut.heads.items()} == {MINE: b"my next head", THEIRS: b"their head"}
    assert link.get_blob(fed_id, THEIRS, "01", 1, max_bytes=100) == [b"their blob"]
    with pytest.raises(ContentMissing):
        link.get_blob(fed_id, THEIRS, "02", 1, max_bytes=100)
    link.nudge(fed_id, b"news")
    link.free_blob(fed_id, MINE, "01", 1)
    assert link.missing_chunks(fed_id, MINE, "01", 1) == [0]
    stop()


FORBIDDEN: dict[str, Callable[[S3Link, str], object]] = {
    "roster": lambda link, fed_id: link.put_roster(
        fed_id,
        b"mine",
        expect=link.cut(fed_id, []).roster.revision,  # type: ignore[union-attr]
    ),
    "another's head": lambda link, fed_id: link.put_head(
        fed_id, THEIRS, b"mine", expect=link.cut(fed_id, [THEIRS]).heads[THEIRS].revision
    ),
    "a stranger's head": lambda link, fed_id: link.put_head(fed_id, "ef" * 16, b"mine", expect=None),
    "another's blob": lambda link, fed_id: link.put_blob(fed_id, THEIRS, "01", [b"mine"]),
    "another's freedom": lambda link, fed_id: link.free_blob(fed_id, THEIRS, "01", 1),
    "the place": lambda link, fed_id: link.destroy(fed_id),
    "another federation": lambda link, _: link.create("0" * 32, max_blob_bytes=1),
    "another federation's roster": lambda link, _: link.cut("0" * 32, []),
    "another's queue": lambda link, fed_id: link.listen(fed_id, THEIRS, print),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_member_cannot_touch_what_is_anothers(
    transport: S3Transport, admin: S3Link, member: dict[str, str], fed_id: str, what: str
) -> None:
    """Refused by S3 and SQS themselves, in words that name the action."""
    with pytest.raises(TransportRefused, match=r"not authorized to perform: (s3|sqs):|check the policy"):
        FORBIDDEN[what](transport.open(member), fed_id)
    cut = admin.cut(fed_id, [THEIRS])
    assert (cut.roster.data, cut.heads[THEIRS].data) == (b"roster", b"their head")
    assert admin.get_blob(fed_id, THEIRS, "01", 1, max_bytes=100) == [b"their blob"]


def test_access_key_of_a_member_is_good_for_nothing_else(
    admin: S3Link, member: dict[str, str], aws: Any, topic: str, fed_id: str
) -> None:
    """Other objects of the bucket, its policy, other topics and queues, other services."""
    login = {"aws_access_key_id": member["aws_access_key"], "aws_secret_access_key": member["aws_secret_key"]}
    bucket = {"Bucket": member["s3_bucket"]}
    aws("s3").put_object(**bucket, Key="state/secret", Body=b"x")
    other_topic = aws("sns").create_topic(Name=secrets.token_hex(4))["TopicArn"]
    s3, sns, sqs, iam = (boto3.client(name, **login) for name in ("s3", "sns", "sqs", "iam"))
    attempts: list[Callable[[], object]] = [
        lambda: s3.get_object(**bucket, Key="state/secret"),
        lambda: s3.put_object(**bucket, Key="state/secret", Body=b"y"),
        lambda: s3.put_object(**bucket, Key=f"grm/{fed_id}/place", Body=b"y"),
        lambda: s3.delete_object(**bucket, Key=f"grm/{fed_id}/roster"),
        lambda: s3.list_objects_v2(**bucket),
        lambda: s3.list_objects_v2(**bucket, Prefix="grm/"),
        lambda: s3.put_bucket_policy(**bucket, Policy="{}"),
        lambda: s3.delete_bucket(**bucket),
        lambda: sns.publish(TopicArn=other_topic, Message="x"),
        lambda: sns.subscribe(TopicArn=topic, Protocol="https", Endpoint="https://collector.example"),
        lambda: sns.delete_topic(TopicArn=topic),
        lambda: sqs.create_queue(QueueName="mine"),
        lambda: iam.list_users(),
    ]
    for attempt in attempts:
        with pytest.raises(ClientError) as refused:
            attempt()
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bucket", "Not_a_bucket"], "s3_bucket"),
        (["--bucket", "b-b", "--fed", "study"], "--fed is an id"),
        (["--bucket", "b-b", "--fed", "0" * 32, "--peer", "*"], "--peer is an id"),
        (["--bucket", "b-b", "--peer", "0" * 32], "--peer needs --fed"),
        (["--bucket", "b-b", "--topic", "*"], "aws_topic_arn"),
    ],
)
def test_policy_for_what_is_no_federation_is_refused(arguments: list[str], words: str) -> None:
    """Nothing goes into a policy that would widen it."""
    with pytest.raises(InvalidRequest, match=words):
        CliRunner().invoke(cli, ["s3", "policy", *arguments], catch_exceptions=False)


def test_policy_names_the_partition_of_its_topic() -> None:
    """In China and GovCloud ARNs begin otherwise."""
    topic = "arn:aws-cn:sns:cn-north-1:123456789012:study"
    done = CliRunner().invoke(cli, ["s3", "policy", "--bucket", "b-b", "--topic", topic], catch_exceptions=False)
    resources = [arn for statement in json.loads(done.output)["Statement"] for arn in statement["Resource"]]
    assert {arn.split(":")[1] for arn in resources if arn != "*"} == {"aws-cn"}
