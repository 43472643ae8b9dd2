"""The options of the S3 transport: which keys there are, what they may hold, and what to do when they don't.

There is no key for an endpoint: which AWS a node talks to is its operator's decision (AWS_ENDPOINT_URL), not that of
whoever writes a federation's map.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from gramian.errors import InvalidRequest
from gramian.options import whole_number

SECRET_OPTIONS = frozenset({"aws_secret_key"})
"""Never shown, and sealed at rest."""
OWN_KEYS = frozenset({"aws_access_key", "aws_secret_key"})
"""What an invitation does not carry: each member has credentials of its own."""
ANY = "*"
"""In a list of what the node's own credentials are lent for: everything."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ACCESS_KEY = re.compile(r"[A-Za-z0-9_]{1,128}")
_SECRET_KEY = re.compile(r"[!-~]{1,256}")
_ACCOUNT = re.compile(r"[0-9]{12}")
_REGION = re.compile(r"[a-z]{2,4}(-[a-z]{2,12}){1,3}-[0-9]{1,2}")
_TOPIC = re.compile(r"arn:(aws[a-z-]{0,16}):sns:([a-z0-9-]{1,40}):([0-9]{12}):([A-Za-z0-9_-]{1,256})")


@dataclass(frozen=True, slots=True)
class Topic:
    """An SNS topic, from its ARN."""

    arn: str
    region: str

    @property
    def partition(self) -> str:
        """Which of the separate AWS this is in: aws, aws-cn, aws-us-gov."""
        return self.arn.split(":")[1]


@dataclass(frozen=True, slots=True)
class S3Options:
    """Checked options; `repr` shows no secret. Without `access_key` the node's own credentials are meant.

    `region` is in AWS's own spelling (us-east-1). `account`: who must own the bucket, empty if that does not matter.
    """

    bucket: str
    region: str
    access_key: str
    secret_key: str = field(repr=False)
    account: str
    topic: Topic | None
    timeout_s: int
    max_blob_bytes: int

    @property
    def access_hint(self) -> str:
        """What to look at when AWS does not let these credentials do something."""
        who = "the user of aws_access_key" if self.access_key else "this node's role"
        owner = ", and aws_id, which must be the bucket's owner" if self.account else ""
        return f"check the policy of {who}{owner}"

    def as_mapping(self) -> dict[str, str]:
        """The normalised options under their keys, absent ones left out; regions in the contract's spelling."""
        values = {
            "s3_bucket": self.bucket,
            "aws_region": java_region(self.region),
            "aws_access_key": self.access_key,
            "aws_secret_key": self.secret_key,
            "aws_id": self.account,
            "aws_topic_arn": self.topic.arn if self.topic else "",
            "aws_topic_region": java_region(self.topic.region) if self.topic else "",
            "aws_req_timeout": str(self.timeout_s),
            "s3_max_blob_bytes": str(self.max_blob_bytes),
        }
        return {key: value for key, value in values.items() if value}

    def shared(self) -> dict[str, str]:
        return {key: value for key, value in self.as_mapping().items() if key not in OWN_KEYS}


def parse_options(
    options: Mapping[str, str], role_buckets: Collection[str], role_topics: Collection[str] = ()
) -> S3Options:
    """Check the keys of this transport; an empty text counts as absent, other keys are ignored.

    `role_buckets`, `role_topics` (ARNs): those for which this node lends its own credentials. Raises InvalidRequest
    with a text that names the key and the remedy, and never a secret's value.
    """
    bucket, topic = parse_bucket(options.get("s3_bucket", "")), _topic(options)
    access_key, secret_key = credentials(options)
    if not access_key:
        _check_lent(bucket, topic, role_buckets, role_topics)
    account = options.get("aws_id", "")
    if account:
        _matching(options, "aws_id", _ACCOUNT, "the 12 digits of the account that owns the bucket")
    return S3Options(
        bucket=bucket,
        region=_region(options, "aws_region"),
        access_key=access_key,
        secret_key=secret_key,
        account=account,
        topic=topic,
        timeout_s=whole_number(options, "aws_req_timeout", 30, low=1, high=600),
        max_blob_bytes=whole_number(options, "s3_max_blob_bytes", 2**30, low=2**20, high=2**40),
    )


def java_region(region: str) -> str:
    """us-east-1 as the contract writes it: US_EAST_1."""
    return region.upper().replace("-", "_")


def aws_region(text: str, key: str) -> str:
    """A region in either spelling as AWS writes it. Raises InvalidRequest naming `key`."""
    region = text.strip().lower().replace("_", "-")
    if not _REGION.fullmatch(region):
        raise InvalidRequest(f"{key} must be an AWS region such as US_EAST_1 or us-east-1")
    return region


def parse_bucket(name: str) -> str:
    """Raises InvalidRequest."""
    _matching({"s3_bucket": name}, "s3_bucket", _BUCKET, "the name of the bucket where the federation meets")
    if ".." in name:
        raise InvalidRequest("s3_bucket must not hold two dots in a row")
    return name


def parse_topic(arn: str) -> Topic:
    """Raises InvalidRequest."""
    match = _TOPIC.fullmatch(arn)
    if match is None:
        raise InvalidRequest(
            "aws_topic_arn must be the ARN of a standard SNS topic: arn:aws:sns:REGION:ACCOUNT:NAME, not FIFO"
        )
    return Topic(arn, aws_region(match[2], "aws_topic_arn: its region"))


def credentials(options: Mapping[str, str]) -> tuple[str, str]:
    """(aws_access_key, aws_secret_key), both empty if absent. Raises InvalidRequest."""
    access_key, secret_key = options.get("aws_access_key", ""), options.get("aws_secret_key", "")
    if bool(access_key) != bool(secret_key):
        raise InvalidRequest("aws_access_key and aws_secret_key go together: give both or neither")
    if access_key:
        _matching(options, "aws_access_key", _ACCESS_KEY, "the id of an access key, such as AKIA...")
        _matching(options, "aws_secret_key", _SECRET_KEY, "the secret of that access key")
    return access_key, secret_key


def _check_lent(bucket: str, topic: Topic | None, role_buckets: Collection[str], role_topics: Collection[str]) -> None:
    """Else whoever has an account on this node could have it write, and listen, wherever its role may."""
    own = "aws_access_key and aws_secret_key are missing: this node's own credentials are only for"
    if bucket not in role_buckets and ANY not in role_buckets:
        raise InvalidRequest(f"{own} buckets that its operator lists in GRAMIAN_S3_ROLE_BUCKETS")
    if topic is not None and topic.arn not in role_topics and ANY not in role_topics:
        raise InvalidRequest(
            f"{own} topics that its operator lists in GRAMIAN_S3_ROLE_TOPICS; or leave aws_topic_arn out"
        )


def _topic(options: Mapping[str, str]) -> Topic | None:
    arn = options.get("aws_topic_arn", "")
    given = options.get("aws_topic_region") or options.get("topic_region") or ""
    if not arn:
        if given:
            raise InvalidRequest("aws_topic_region needs aws_topic_arn: the topic over which members nudge each other")
        return None
    topic = parse_topic(arn)
    if given and aws_region(given, "aws_topic_region") != topic.region:
        raise InvalidRequest(f"aws_topic_region differs from the region in aws_topic_arn ({topic.region})")
    return topic


def _region(options: Mapping[str, str], key: str) -> str:
    if not options.get(key):
        raise InvalidRequest(f"{key} is missing: give the AWS region, such as US_EAST_1")
    return aws_region(options[key], key)


def _matching(options: Mapping[str, str], key: str, pattern: re.Pattern[str], meaning: str) -> str:
    value = options.get(key, "")
    if not value:
        raise InvalidRequest(f"{key} is missing: give {meaning}")
    if not pattern.fullmatch(value):
        raise InvalidRequest(f"{key} cannot be right: it must be {meaning}")
    return value
