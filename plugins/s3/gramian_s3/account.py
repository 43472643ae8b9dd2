"""What of SNS and SQS an AWS account holds: the contract's AwsInfo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gramian.errors import InvalidRequest, TransportRefused
from gramian_s3.calls import Calls, Pace
from gramian_s3.clients import make, new_session
from gramian_s3.errors import translating
from gramian_s3.options import S3Options, aws_region, credentials, java_region

TIMEOUT_S = 30
_SHOWN = {"owner": "Owner", "protocol": "Protocol", "endpoint": "Endpoint", "subscription_arn": "SubscriptionArn"}


@dataclass(frozen=True, slots=True)
class _Found:
    """Of one region: subscriptions by topic, and URLs of queues."""

    topics: Mapping[str, Sequence[Mapping[str, str]]]
    queues: Sequence[str]


def inventory(options: Mapping[str, str]) -> dict[str, object]:
    """Topics with their subscriptions, and queues, of `aws_region` or of every region that the account uses.

    Raises InvalidRequest, TransportRefused, TransportUnavailable.
    """
    login = credentials(options)
    if not login[0]:
        raise InvalidRequest("aws_access_key and aws_secret_key are needed: the credentials to look with")
    session = new_session()
    named = options.get("aws_region", "")
    regions = [aws_region(named, "aws_region")] if named else session.get_available_regions("sns")
    looks = [_Look(session, region, login, is_one_of_many=not named) for region in regions]
    found = dict(zip(regions, Calls(TIMEOUT_S).all(looks), strict=True))
    used = {java_region(region): each for region, each in found.items() if each is not None}
    if not used:
        raise TransportRefused("AWS refuses these credentials in every region: check aws_access_key and aws_secret_key")
    return {
        "topics": {region: [{arn: list(held)} for arn, held in each.topics.items()] for region, each in used.items()},
        "queues": {region: list(each.queues) for region, each in used.items()},
    }


class _Look:
    """Looks into one region. Makes its clients at once: sessions are not thread-safe."""

    def __init__(self, session: Any, region: str, login: tuple[str, str], *, is_one_of_many: bool) -> None:
        self._hints = S3Options("", region, *login, "", None, TIMEOUT_S, 0)
        self._sns, self._sqs = (make(session, name, region, login, TIMEOUT_S) for name in ("sns", "sqs"))
        self._is_one_of_many = is_one_of_many

    def __call__(self, pace: Pace) -> _Found | None:
        """None for a region that the account has not enabled."""
        try:
            listed = self._pages("SNS", self._sns, "list_topics", "Topics", pace)
            topics: dict[str, list[dict[str, str]]] = {topic["TopicArn"]: [] for topic in listed}
            for each in self._pages("SNS", self._sns, "list_subscriptions", "Subscriptions", pace):
                shown = {key: each.get(name, "") for key, name in _SHOWN.items()}
                topics.setdefault(each["TopicArn"], []).append(shown)
            return _Found(topics, self._pages("SQS", self._sqs, "list_queues", "QueueUrls", pace))
        except TransportRefused:
            if self._is_one_of_many:
                return None
            raise

    def _pages(self, service: str, client: Any, operation: str, key: str, pace: Pace) -> list[Any]:
        found: list[Any] = []
        with translating(service, self._hints):
            for page in client.get_paginator(operation).paginate():
                pace.progressed()
                found += page.get(key, [])
        return found
