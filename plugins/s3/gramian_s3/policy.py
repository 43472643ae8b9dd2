"""The IAM policy that lets a member of a federation do what it must, and no more."""

from __future__ import annotations

from typing import Any

from gramian.domain.names import check_hex_id
from gramian_s3 import keys
from gramian_s3.options import Topic

_QUEUE_ACTIONS = (
    "CreateQueue",
    "DeleteMessage",
    "DeleteQueue",
    "GetQueueAttributes",
    "ReceiveMessage",
    "SetQueueAttributes",
)


def member(bucket: str, fed_id: str | None, peer_id: str | None, topic: Topic | None) -> dict[str, Any]:
    """A policy document for a user or role.

    Without `peer_id` it is the founder's, or that of members who trust one another: it lets its bearer write all that
    belongs to the federation. With it, the bearer writes that member's own head and snapshots only, so that it can
    neither overwrite nor remove what is another's. Without `fed_id`, which nobody knows before a federation is
    founded, it is for all federations in the bucket. ARNs are of the topic's partition. Raises ValueError.
    """
    partition = topic.partition if topic is not None else "aws"
    place = keys.prefix(fed_id) if fed_id else "grm/"
    objects = f"arn:{partition}:s3:::{bucket}/{place}"
    own = [f"{objects}heads/{peer_id}", f"{objects}blobs/{peer_id}/*"] if peer_id else [f"{objects}*"]
    statements = [
        _allow("Read", ["s3:GetObject"], [f"{objects}*"]),
        _allow("Write", ["s3:PutObject", "s3:DeleteObject"], own),
        {
            **_allow("SeeWhatIsAbsent", ["s3:ListBucket"], [f"arn:{partition}:s3:::{bucket}"]),
            "Condition": {"StringLike": {"s3:prefix": f"{place}*"}},
        },
    ]
    if topic is not None:
        statements += _nudges(topic, fed_id, peer_id)
    return {"Version": "2012-10-17", "Statement": statements}


def _nudges(topic: Topic, fed_id: str | None, peer_id: str | None) -> list[dict[str, Any]]:
    ids = [check_hex_id(id_, "an id") if id_ else "*" for id_ in (fed_id, peer_id)]
    queue = f"arn:{topic.partition}:sqs:{topic.region}:*:grm-{ids[0]}-{ids[1]}"
    return [
        _allow("Nudge", ["sns:Publish"], [topic.arn]),
        {
            **_allow("HearNudges", ["sns:Subscribe"], [topic.arn]),
            "Condition": {"StringEquals": {"sns:Protocol": "sqs"}, "StringLike": {"sns:Endpoint": queue}},
        },
        # Of all actions on subscriptions this one knows no resources; their ARNs cannot be guessed.
        _allow("StopHearing", ["sns:Unsubscribe"], ["*"]),
        _allow("OwnQueue", [f"sqs:{action}" for action in _QUEUE_ACTIONS], [queue]),
    ]


def _allow(sid: str, actions: list[str], resources: list[str]) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources}
