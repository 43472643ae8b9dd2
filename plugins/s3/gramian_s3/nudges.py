"""Nudges: published to the topic, heard from a queue of the member's own that lives while somebody listens."""

from __future__ import annotations

import base64
import json
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gramian.errors import ContentMissing, TransportError
from gramian_s3 import keys
from gramian_s3.clients import POLL_S, Clients
from gramian_s3.errors import translating
from gramian_s3.options import S3Options

MAX_NUDGE_BYTES = 4_096
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
SETTLE_ATTEMPTS = 5
SETTLE_S = 1.0
_RETENTION_S = 60
"""The shortest that SQS allows: after a longer absence a node syncs anyway."""
_BATCH = 10

_log = logging.getLogger(__name__)


def publish(sns: Any, options: S3Options, fed_id: str, data: bytes) -> None:
    """Raises TransportError."""
    assert options.topic is not None, "nudges need a topic"
    about = {"fed_id": {"DataType": "String", "StringValue": fed_id}}
    with translating("SNS", options):
        sns.publish(TopicArn=options.topic.arn, Message=base64.b64encode(data).decode("ascii"), MessageAttributes=about)


class Listener:
    """Calls `on_nudge` for each nudge of a federation, from a thread of its own, until it is stopped."""

    def __init__(
        self, clients: Clients, options: S3Options, fed_id: str, peer_id: str, on_nudge: Callable[[bytes], None]
    ) -> None:
        self._clients = clients
        self._options = options
        self._fed_id = fed_id
        self._name = keys.queue(fed_id, peer_id)
        self._on_nudge = on_nudge
        self._stopped = threading.Event()
        self._changing = threading.Lock()
        self._queue_url = self._subscription = ""
        self._thread = threading.Thread(target=self._run, name="gramian-nudges", daemon=True)

    def subscribe(self) -> None:
        """Make the queue, or find the one that an earlier process left behind, and have the topic fill it.

        Raises TransportError; then nothing is left behind.
        """
        try:
            self._subscribe()
        except TransportError:
            self._unsubscribe()
            raise

    def _subscribe(self) -> None:
        assert self._options.topic is not None, "nudges need a topic"
        sqs, sns = self._clients.sqs(self._options), self._clients.sns(self._options)
        topic = self._options.topic.arn
        with translating("SQS", self._options):
            self._queue_url = sqs.create_queue(
                QueueName=self._name, Attributes={"MessageRetentionPeriod": str(_RETENTION_S)}
            )["QueueUrl"]
        queue = self._arn(sqs)
        with translating("SQS", self._options):
            sqs.set_queue_attributes(QueueUrl=self._queue_url, Attributes={"Policy": _queue_policy(queue, topic)})
        with translating("SNS", self._options):
            self._subscription = sns.subscribe(
                TopicArn=topic,
                Protocol="sqs",
                Endpoint=queue,
                ReturnSubscriptionArn=True,
                Attributes={"RawMessageDelivery": "true", "FilterPolicy": json.dumps({"fed_id": [self._fed_id]})},
            )["SubscriptionArn"]

    def _arn(self, sqs: Any) -> str:
        """The queue's; SQS may need a moment to know a new one."""
        for _ in range(SETTLE_ATTEMPTS - 1):
            with suppress(ContentMissing):
                return self._ask_arn(sqs)
            self._stopped.wait(SETTLE_S)
        return self._ask_arn(sqs)

    def _ask_arn(self, sqs: Any) -> str:
        with translating("SQS", self._options):
            asked = sqs.get_queue_attributes(QueueUrl=self._queue_url, AttributeNames=["QueueArn"])
        return str(asked["Attributes"]["QueueArn"])

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End it, and take queue and subscription away. May be repeated, and called from `on_nudge`."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        with self._changing:
            self._unsubscribe()

    def _unsubscribe(self) -> None:
        """What cannot be removed now is found again by the next that listens as the same member."""
        try:
            if self._subscription:
                with translating("SNS", self._options):
                    self._clients.sns(self._options).unsubscribe(SubscriptionArn=self._subscription)
        except TransportError as error:
            _log.info("the subscription of the queue %s stays behind: %s", self._name, error)
        try:
            if self._queue_url:
                with translating("SQS", self._options):
                    self._clients.sqs(self._options).delete_queue(QueueUrl=self._queue_url)
        except TransportError as error:
            _log.info("the queue %s stays behind: %s", self._name, error)

    def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stopped.is_set():
            try:
                messages = self._receive()
            except TransportError as error:
                if not self._stopped.is_set():
                    _log.info("no nudges are heard for now: %s", error)
                self._stopped.wait(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                continue
            pause_s = FIRST_PAUSE_S
            for message in messages:
                if not self._stopped.is_set():
                    self._call_back(message)

    def _receive(self) -> list[str]:
        """The next messages, removed from the queue. If that is gone, as it is when another process of this node has
        stopped, it is made anew."""
        sqs = self._clients.polling(self._options)
        try:
            with translating("SQS", self._options):
                got = sqs.receive_message(
                    QueueUrl=self._queue_url, WaitTimeSeconds=POLL_S, MaxNumberOfMessages=_BATCH
                ).get("Messages", [])
                for message in got:
                    sqs.delete_message(QueueUrl=self._queue_url, ReceiptHandle=message["ReceiptHandle"])
        except ContentMissing:
            with self._changing:
                if not self._stopped.is_set():
                    self.subscribe()
            return []
        return [message["Body"] for message in got]

    def _call_back(self, message: str) -> None:
        with suppress(ValueError):
            data = base64.b64decode(message, validate=True)
            if len(data) <= MAX_NUDGE_BYTES:
                try:
                    self._on_nudge(data)
                except Exception:  # noqa: BLE001 - one bad call must not end the hearing of later nudges
                    _log.exception("a nudge could not be handled")


def _queue_policy(queue: str, topic: str) -> str:
    """Nobody but the topic may fill the queue."""
    allow = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [allow]})
