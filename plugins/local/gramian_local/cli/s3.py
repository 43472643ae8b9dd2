"""`gramian s3`: what the operator of an AWS account needs from a federation."""

from __future__ import annotations

import json
import re

import click

from gramian.errors import InvalidRequest


@click.group()
def s3() -> None:
    """Prepare an AWS account for a federation."""


@s3.command()
@click.option("--bucket", required=True, help="The federation's bucket: s3_bucket in its info.")
@click.option(
    "--fed", "fed_id", metavar="ID", help="The federation: fed_id in its info.  [default: all in this bucket]"
)
@click.option(
    "--peer",
    "peer_id",
    metavar="ID",
    help="For this member alone, which then cannot touch what others publish.  [default: all that a federation needs]",
)
@click.option("--topic", "topic_arn", metavar="ARN", help="The topic for nudges: aws_topic_arn in its info.")
def policy(bucket: str, fed_id: str | None, peer_id: str | None, topic_arn: str | None) -> None:
    """Print the IAM policy for the user or role of a federation's member.

    Without --peer it is for the admin's node, or for all members where they trust one another.
    """
    from gramian_s3 import policy as documents
    from gramian_s3.options import parse_bucket, parse_topic

    for name, id_ in (("--fed", fed_id), ("--peer", peer_id)):
        if id_ is not None and not re.fullmatch("[0-9a-f]{32}", id_):
            raise InvalidRequest(f"{name} is an id of 32 hex digits, as the federation's info has it")
    if peer_id is not None and fed_id is None:
        raise InvalidRequest("--peer needs --fed: a member has another id in each federation")
    topic = None if topic_arn is None else parse_topic(topic_arn)
    click.echo(json.dumps(documents.member(parse_bucket(bucket), fed_id, peer_id, topic), indent=2))
