"""Federations over S3 as their members' operators see them: credentials, policies, objects that vanish, awsinfo."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from botocore.endpoint import Endpoint
from click.testing import CliRunner

from gramian.client import BadRequest
from gramian.client.rows import dataframe
from gramian.domain import frame as frames
from gramian.settings import Settings
from gramian.usecases import users
from gramian.usecases.federation import found, pulse
from gramian.usecases.projects import lifecycle
from gramian.usecases.projects import rows as local_rows
from gramian_local.cli.main import cli
from gramian_local.node import opened
from gramian_local.resident import Resident

pytestmark = pytest.mark.transports("s3")
NAMES = ["age", "dose", "weight", "response"]
SECRET = "wJalrXUtnFEMI/K7MDENG+secret"


def rows(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(40, 3))
    return np.column_stack([inputs, inputs @ [1.0, -2.0, 0.5] + random.normal(size=40)])


@pytest.fixture
def started(federate) -> Callable[..., Any]:
    """A federation whose members have learned and converged."""

    def make(count: int, **keys: Any) -> Any:
        federation = federate(count, **keys)
        federation.learn(NAMES, "CCCC", [rows(seed) for seed in range(count)])
        federation.sync()
        federation.assert_converged(40 * count)
        return federation

    return make


@pytest.mark.parametrize("encrypt", [False, True])
def test_federation_over_s3_predicts_as_all_rows_in_one_place(started, pooled, encrypt: bool) -> None:
    """From founding to the end, when nothing of it is left in the bucket."""
    federation = started(3, fed_encrypt=encrypt)
    expected = pooled(np.vstack([rows(seed) for seed in range(3)]), rows(9)[:, :3])
    for each in federation.sites:
        each.client.build("study", "m", "response")
        found = [float(row["res"]) for row in each.client.predict("study", "m", NAMES[:3], rows(9)[:, :3])]
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    admin, *others = federation.sites
    keys = federation.meeting.keys
    assert boto3.client("s3").list_objects_v2(Bucket=keys["s3_bucket"])["KeyCount"] == 8
    for each in others:
        each.client.delete_project("study")
    admin.client.delete_project("study")
    assert boto3.client("s3").list_objects_v2(Bucket=keys["s3_bucket"])["KeyCount"] == 0


def test_sealed_federation_shows_the_bucket_neither_names_nor_numbers(started) -> None:
    """What lies there is unreadable for whoever may read it."""
    federation = started(2, fed_encrypt=True)
    raw = federation.meeting.raw(federation.admin.client.federation_info("study")["fed_id"])
    stored = b"".join(raw.stored(key) for key in raw.entries() | raw.chunks())
    assert not any(name.encode() in stored for name in NAMES)
    assert rows(0).sum(axis=0)[0].tobytes() not in stored


def test_invitation_carries_no_credentials_and_each_member_brings_its_own(federate, site) -> None:
    """Neither info nor the home shows the secret; without one, the text says what is missing."""
    federation, late = federate(1), site("late")
    keys = federation.meeting.keys
    invitation = federation.admin.client.invite("study", "password", federation.admin.url)
    assert {key for key in invitation if key.startswith(("aws_", "s3_", "topic"))} == {
        *("s3_bucket", "aws_region", "aws_topic_arn", "aws_topic_region", "aws_req_timeout", "s3_max_blob_bytes")
    }
    with pytest.raises(BadRequest, match=r"aws_access_key and aws_secret_key are missing.*GRAMIAN_S3_ROLE_BUCKETS"):
        late.client.join("study", invitation)
    with pytest.raises(BadRequest, match="check aws_access_key") as refused:
        late.client.join("study", invitation, aws_access_key="AKIANOBODY", aws_secret_key=SECRET)
    assert SECRET not in str(refused.value)
    late.client.join("study", invitation, **federation.meeting.own)
    info = late.client.federation_info("study")
    assert (info["fed_type"], info["s3_bucket"], info["aws_region"]) == ("s3", keys["s3_bucket"], "US_EAST_1")
    assert "aws_secret_key" not in info


def test_joining_in_another_bucket_is_refused(federate, site) -> None:
    """A member there would wait for ever, alone; the invitation stays good."""
    federation, late = federate(1), site("late")
    other = f"grm-{secrets.token_hex(6)}"
    boto3.client("s3").create_bucket(Bucket=other)
    invitation = federation.admin.client.invite("study", "password", federation.admin.url)
    with pytest.raises(BadRequest, match="not where these keys lead"):
        late.client.join("study", {**invitation, **federation.meeting.own, "s3_bucket": other})
    assert late.client.projects() == []
    late.client.join("study", invitation, **federation.meeting.own)


def test_keys_of_two_transports_are_refused(federate, site) -> None:
    """Nobody can tell which is meant."""
    keys = federate(1).meeting.keys
    with pytest.raises(BadRequest, match=r"one transport.*nats.*s3"):
        site("other").client.create_federation("x", fed_name="x", sync_sched="m5", nats_hosts="127.0.0.1", **keys)


def test_access_key_can_be_replaced(started, member_key) -> None:
    """As it should be from time to time; a wrong one changes nothing."""
    federation = started(2)
    member = federation.sites[1].client
    with pytest.raises(BadRequest, match="check aws_access_key"):
        member.set_transport("study", aws_access_key="AKIANOBODY", aws_secret_key=SECRET)
    fresh = member_key(federation.meeting.keys)
    member.set_transport("study", **fresh)
    assert member.federation_info("study")["aws_access_key"] == fresh["aws_access_key"]
    member.learn("study", NAMES, "CCCC", rows(5))
    federation.sync()
    federation.assert_converged(120)


@pytest.fixture
def member_key(meeting) -> Callable[..., dict[str, str]]:
    """A user's access key, with the policy that `gramian s3 policy` prints (a user known by its key gets another)."""
    iam, names = boto3.client("iam"), {}

    def make(keys: dict[str, Any], *arguments: str, known: dict[str, str] | None = None) -> dict[str, str]:
        options = ["--bucket", keys["s3_bucket"], "--topic", keys["aws_topic_arn"], *arguments]
        policy = CliRunner().invoke(cli, ["s3", "policy", *options], catch_exceptions=False).output
        name = names[known["aws_access_key"]] if known else f"member-{secrets.token_hex(4)}"
        if known is None:
            iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="federation", PolicyDocument=json.dumps(json.loads(policy)))
        if known is not None:
            return known
        made = iam.create_access_key(UserName=name)["AccessKey"]
        names[made["AccessKeyId"]] = name
        return {"aws_access_key": made["AccessKeyId"], "aws_secret_key": made["SecretAccessKey"]}

    return make


def test_members_with_policies_of_their_own_form_a_federation(site, meeting, member_key) -> None:
    """The founder's before there is a federation, then everybody's, as docs/s3.md says."""
    admin, peer = site("admin"), site("peer")
    founder = member_key(meeting.keys)
    admin.client.create_federation("study", fed_name="study", sync_sched="m30", **{**meeting.keys, **founder})
    fed_id = admin.client.federation_info("study")["fed_id"]
    member_key(meeting.keys, "--fed", fed_id, known=founder)
    theirs = member_key(meeting.keys, "--fed", "0" * 32, "--peer", "0" * 32)
    peer.client.join("study", admin.client.invite("study", "password", admin.url), **theirs)
    with pytest.raises(BadRequest, match="check the policy of the user of aws_access_key"):
        peer.client.sync("study")
    own_id = peer.client.federation_info("study")["fed_local_id"]
    member_key(meeting.keys, "--fed", fed_id, "--peer", own_id, known=theirs)
    for each, seed in ((admin, 0), (peer, 1)):
        each.client.learn("study", NAMES, "CCCC", rows(seed))
    for each in (admin, peer, admin, peer):
        each.client.sync("study")
    shown = [each.client.project_info("study")["params"] for each in (admin, peer)]
    assert [params["fed_rows"] for params in shown] == ["80", "80"]
    assert shown[0]["fed_digest"] == shown[1]["fed_digest"]
    peer.client.leave("study")
    admin.client.sync("study")
    assert admin.client.project_info("study")["params"]["fed_rows"] == "40"


@pytest.mark.parametrize(
    "lost",
    ["everything", *(pytest.param(what, marks=pytest.mark.slow) for what in ("chunks", "heads", "roster", "place"))],
)
def test_what_vanishes_from_the_bucket_is_put_back(started, lost: str) -> None:
    """By a lifecycle rule, or a hand: the owners have it, and a newcomer gets all of it."""
    federation = started(2)
    raw = federation.meeting.raw(federation.admin.client.federation_info("study")["fed_id"])
    place, bucket = f"grm/{raw.fed_id}/place", federation.meeting.keys["s3_bucket"]
    gone = {
        "chunks": raw.chunks(),
        "heads": {key for key in raw.entries() if "/heads/" in key},
        "roster": {raw.roster()},
        "place": {place},
        "everything": raw.entries() | raw.chunks() | {place},
    }[lost]
    before = federation.params("fed_digest")
    for key in gone:
        boto3.client("s3").delete_object(Bucket=bucket, Key=key)
    federation.sync()
    assert raw.entries() | raw.chunks() | {place} >= gone
    assert federation.params("fed_digest") == before
    federation.assert_converged(80)


def test_resident_node_merges_at_once_what_another_publishes(started, monkeypatch) -> None:
    """A nudge over SNS and SQS makes it pulse long before its schedule."""
    federation = started(2)
    here, there = federation.sites
    here.client.start_pulse("study")
    resident = Resident(here.node)
    resident.start()
    try:
        queues = boto3.client("sqs")
        eventually(lambda: queues.list_queues(QueueNamePrefix="grm-").get("QueueUrls", []) != [])
        there.client.learn("study", NAMES, "CCCC", rows(7))
        there.client.sync("study")
        eventually(lambda: here.client.project_info("study")["params"]["fed_rows"] == "120")
    finally:
        resident.stop()
    fed_id = here.client.federation_info("study")["fed_id"]
    assert queues.list_queues(QueueNamePrefix=f"grm-{fed_id}").get("QueueUrls", []) == []


def test_own_role_serves_the_buckets_that_the_operator_lists(meeting, tmp_path: Path) -> None:
    """No access key anywhere: the process has one of its own (here from its environment)."""
    keys = {key: value for key, value in meeting.keys.items() if key not in meeting.own}
    wanted = {"fed_name": "study", "sync_sched": "m30", **keys}
    lent = {"GRAMIAN_S3_ROLE_BUCKETS": keys["s3_bucket"], "GRAMIAN_S3_ROLE_TOPICS": keys["aws_topic_arn"]}
    settings = Settings(transports=("s3",), environment=lent)
    with opened(settings, tmp_path / "home") as (node, _):
        users.create(node, "a")
        found.create(node, "a", "study", wanted, persist=True)
        pulse.run(node, "a", "study")
    raw = [each["Key"] for each in boto3.client("s3").list_objects_v2(Bucket=keys["s3_bucket"])["Contents"]]
    assert [key.rpartition("/")[2] for key in raw] == ["place", "roster"]


def test_pulse_costs_what_the_documentation_says(started, monkeypatch) -> None:
    """docs/s3.md gives requests and prices."""
    federation = started(3)
    asked: Counter[str] = Counter()
    send = Endpoint.make_request

    def counting(endpoint: Endpoint, operation: Any, request: dict[str, Any]) -> Any:
        asked[operation.name] += 1
        return send(endpoint, operation, request)

    monkeypatch.setattr(Endpoint, "make_request", counting)
    pulse.run(federation.sites[1].node, "org1", "study")
    assert asked.keys() <= {"GetObject", "HeadObject"}
    assert asked.total() == len(federation.sites) + 4
    local_rows.learn(
        federation.sites[1].node,
        lifecycle.find(federation.sites[1].node, "org1", "study"),
        frames.decode(json.dumps(dataframe(NAMES, "CCCC", rows(8))).encode()),
    )
    asked.clear()
    pulse.run(federation.sites[1].node, "org1", "study")
    assert asked == {"GetObject": 5, "HeadObject": 2, "PutObject": 2, "DeleteObjects": 1, "Publish": 1}
    asked.clear()
    pulse.run(federation.sites[2].node, "org2", "study")
    assert asked.keys() <= {"GetObject", "HeadObject"}
    assert asked.total() == len(federation.sites) + 4 + 1


# awsinfo


def test_awsinfo_lists_topics_with_their_subscriptions_and_queues(federate) -> None:
    """Of one region, in the contract's form."""
    federation = federate(1)
    topic, own = federation.meeting.keys["aws_topic_arn"], federation.meeting.own
    queue = boto3.client("sqs").create_queue(QueueName=f"q-{secrets.token_hex(4)}")["QueueUrl"]
    name = queue.rpartition("/")[2]
    arn = f"arn:aws:sqs:us-east-1:000000000000:{name}"
    made = boto3.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, ReturnSubscriptionArn=True)
    info = federation.admin.client.aws_info(*own.values(), "US_EAST_1")
    assert set(info) == {"topics", "queues"}
    assert set(info["topics"]) == set(info["queues"]) == {"US_EAST_1"}
    assert name in [url.rpartition("/")[2] for url in info["queues"]["US_EAST_1"]]
    (subscriptions,) = [entry[topic] for entry in info["topics"]["US_EAST_1"] if topic in entry]
    expected = {"protocol": "sqs", "endpoint": arn, "subscription_arn": made["SubscriptionArn"]}
    assert subscriptions == [{"owner": "000000000000", **expected}]


def test_awsinfo_without_a_region_looks_into_all(federate) -> None:
    """As far as the account uses them."""
    federation = federate(1)
    info = federation.admin.client.aws_info(*federation.meeting.own.values())
    assert {"US_EAST_1", "EU_WEST_3"} <= set(info["topics"]) == set(info["queues"])
    assert all(re.fullmatch("[A-Z0-9_]+", region) for region in info["topics"])


def test_awsinfo_with_credentials_that_are_not_good_says_so(federate, tmp_path: Path) -> None:
    """At once if one is missing, else the job tells; nothing of them is stored in the clear."""
    client = federate(1).admin.client
    with pytest.raises(BadRequest, match="aws_secret_key must be given"):
        client.request("POST", "/fedml/study/awsinfo", sealed={"aws_access_key": "AKIA"})
    with pytest.raises(BadRequest, match="Cannot Find"):
        client.request("POST", "/fedml/nowhere/awsinfo", sealed={"aws_access_key": "A", "aws_secret_key": SECRET})
    login = {"aws_access_key": "AKIANOBODY", "aws_secret_key": SECRET}
    for region, words in (({"aws_region": "EU_WEST_3"}, "check aws_access_key"), ({}, "in every region")):
        reply = client.request("POST", "/fedml/study/awsinfo", sealed={**login, **region})
        with pytest.raises(BadRequest, match=words) as failed:
            client.wait_for_job(str(reply.job_id))
        assert SECRET not in str(failed.value)
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert SECRET.encode() not in stored


def eventually(holds: Callable[[], bool], timeout_s: float = 15) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, "did not come true in time"
        time.sleep(0.05)
