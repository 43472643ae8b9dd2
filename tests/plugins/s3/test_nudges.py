"""Nudges over SNS and SQS: heard by every member that listens, and nothing is left behind."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from gramian.errors import ContentMissing, TransportRefused, TransportUnavailable
from gramian_s3 import nudges
from gramian_s3.transport import S3Link, S3Transport

PEER, OTHER = "ab" * 16, "cd" * 16


@pytest.fixture
def link(transport: S3Transport, options: dict[str, str]) -> S3Link:
    return transport.open(options)


@pytest.fixture
def left(aws: Any, topic: str) -> Callable[[str], tuple[list[str], int]]:
    """Queues of a federation, and subscriptions of the topic."""
    sqs, sns = aws("sqs"), aws("sns")

    def look(fed_id: str) -> tuple[list[str], int]:
        urls = sqs.list_queues(QueueNamePrefix=f"grm-{fed_id}").get("QueueUrls", [])
        return [url.rpartition("/")[2] for url in urls], len(
            sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
        )

    return look


def eventually(holds: Callable[[], bool], timeout_s: float = 10) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, "did not come true in time"
        time.sleep(0.05)


def test_queue_and_subscription_live_as_long_as_somebody_listens(link: S3Link, fed_id: str, left: Any) -> None:
    """Named after federation and member; both are removed at the end, also by closing the link."""
    stop = link.listen(fed_id, PEER, print)
    assert left(fed_id) == ([f"grm-{fed_id}-{PEER}"], 1)
    stop()
    assert left(fed_id) == ([], 0)
    link.listen(fed_id, OTHER, print)
    link.close()
    assert left(fed_id) == ([], 0)


def test_closing_the_transport_ends_all_listening(
    transport: S3Transport, options: dict[str, str], fed_id: str, left: Any
) -> None:
    """A process that stops leaves nothing behind; its transport opens no more links."""
    transport.open(options).listen(fed_id, PEER, print)
    transport.close()
    assert left(fed_id) == ([], 0)
    with pytest.raises(TransportUnavailable, match="closed"):
        transport.open(options)


def test_nobody_but_the_topic_may_fill_the_queue(link: S3Link, aws: Any, fed_id: str, topic: str) -> None:
    """Nor may another account's topic."""
    link.listen(fed_id, PEER, print)
    sqs = aws("sqs")
    url = sqs.get_queue_url(QueueName=f"grm-{fed_id}-{PEER}")["QueueUrl"]
    policy = json.loads(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]["Policy"])
    (statement,) = policy["Statement"]
    assert statement["Principal"] == {"Service": "sns.amazonaws.com"}
    assert statement["Action"] == "sqs:SendMessage"
    assert statement["Condition"] == {"ArnEquals": {"aws:SourceArn": topic}}


def test_two_members_both_hear_and_other_federations_do_not(
    transport: S3Transport, options: dict[str, str], fed_id: str
) -> None:
    """On one topic for several federations."""
    heard: dict[str, list[bytes]] = {PEER: [], OTHER: [], "elsewhere": []}
    link = transport.open(options)
    link.listen(fed_id, PEER, heard[PEER].append)
    link.listen(fed_id, OTHER, heard[OTHER].append)
    link.listen(secrets.token_hex(16), PEER, heard["elsewhere"].append)
    link.nudge(fed_id, b"\x00news\xff")
    eventually(lambda: heard[PEER] == heard[OTHER] == [b"\x00news\xff"])
    assert heard["elsewhere"] == []


def test_listener_finds_the_queue_that_a_killed_process_left(
    transport: S3Transport, options: dict[str, str], fed_id: str, left: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that nothing piles up, however often a node is killed."""
    with monkeypatch.context() as killed:
        killed.setattr(nudges.Listener, "_run", lambda _: None)
        killed.setattr(nudges.Listener, "stop", lambda _: None)
        transport.open(options).listen(fed_id, PEER, print)
    again, heard = S3Transport(), []
    link = again.open(options)
    link.listen(fed_id, PEER, heard.append)
    assert left(fed_id) == ([f"grm-{fed_id}-{PEER}"], 1)
    link.nudge(fed_id, b"news")
    eventually(lambda: heard == [b"news"])
    again.close()
    assert left(fed_id) == ([], 0)


def test_new_queue_that_is_not_known_everywhere_yet_is_waited_for(
    link: S3Link, fed_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQS promises that only after a second; to remove it and try again would take a minute."""
    ask, asked = nudges.Listener._ask_arn, []

    def early(listener: nudges.Listener, sqs: Any) -> str:
        asked.append(sqs)
        if len(asked) < 3:
            raise ContentMissing("SQS has no such queue")
        return ask(listener, sqs)

    monkeypatch.setattr(nudges, "SETTLE_S", 0.01)
    monkeypatch.setattr(nudges.Listener, "_ask_arn", early)
    heard: list[bytes] = []
    link.listen(fed_id, PEER, heard.append)
    link.nudge(fed_id, b"news")
    eventually(lambda: heard == [b"news"])


def test_listener_makes_its_queue_anew_when_that_is_removed(
    transport: S3Transport,
    options: dict[str, str],
    fed_id: str,
    left: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when one of two processes of a node stops: both listen as the same member."""
    monkeypatch.setattr(nudges, "POLL_S", 1)
    first, second, heard = transport.open(options), transport.open(options), []
    first.listen(fed_id, PEER, print)
    second.listen(fed_id, PEER, heard.append)
    first.close()
    eventually(lambda: left(fed_id) == ([f"grm-{fed_id}-{PEER}"], 1))
    second.nudge(fed_id, b"news")
    eventually(lambda: heard == [b"news"])


def test_what_is_no_nudge_is_dropped(link: S3Link, aws: Any, fed_id: str, topic: str) -> None:
    """Whoever may publish to the topic can send anything; the listening goes on."""
    heard: list[bytes] = []
    link.listen(fed_id, PEER, heard.append)
    about = {"fed_id": {"DataType": "String", "StringValue": fed_id}}
    for text in ("no base64!", "\u2603", "A" * 200_000, "=", '{"json": true}'):
        aws("sns").publish(TopicArn=topic, Message=text, MessageAttributes=about)
    link.nudge(fed_id, b"news")
    eventually(lambda: heard == [b"news"])


def test_without_a_topic_there_are_no_nudges(
    transport: S3Transport, options: dict[str, str], fed_id: str, left: Any
) -> None:
    """Members sync on schedule then; neither call makes or needs anything."""
    link = transport.open({key: value for key, value in options.items() if key != "aws_topic_arn"})
    threads = threading.active_count()
    stop = link.listen(fed_id, PEER, print)
    link.nudge(fed_id, b"news")
    stop()
    assert threading.active_count() <= threads
    assert left(fed_id) == ([], 0)


def test_topic_that_does_not_exist_is_refused_by_name(
    transport: S3Transport, options: dict[str, str], fed_id: str, left: Any
) -> None:
    """And the queue that was made for it is not left behind."""
    root = {"aws_access_key": "test", "aws_secret_key": "test"}
    link = transport.open({**options, **root, "aws_topic_arn": options["aws_topic_arn"] + "x"})
    with pytest.raises(TransportRefused, match="aws_topic_arn"):
        link.nudge(fed_id, b"news")
    with pytest.raises(TransportRefused, match="aws_topic_arn"):
        link.listen(fed_id, PEER, print)
    assert left(fed_id) == ([], 0)


def test_listening_ends_in_time_although_aws_says_nothing_any_more(
    transport: S3Transport, options: dict[str, str], fed_id: str, emulator: Any, proxy_to: Any, monkeypatch: Any
) -> None:
    """A process that stops is not held up."""
    line = proxy_to(int(emulator.url.rpartition(":")[2]), "http")
    monkeypatch.setenv("AWS_ENDPOINT_URL", line.url)
    monkeypatch.setattr("gramian_s3.transport.STOP_S", 0.5)
    link = transport.open(options)
    link.listen(fed_id, PEER, print)
    line.is_dead = True
    started = time.monotonic()
    link.close()
    assert time.monotonic() - started < 3


def test_nudge_that_is_too_long_is_a_mistake(link: S3Link, fed_id: str) -> None:
    """Listeners would drop it."""
    with pytest.raises(ValueError, match="at most 4096"):
        link.nudge(fed_id, bytes(4_097))
