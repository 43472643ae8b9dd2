"""The options of the S3 transport: both spellings, clear refusals, no secret in any text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gramian import plugins
from gramian.errors import InvalidRequest, PluginError
from gramian.settings import Settings
from gramian_s3.options import parse_options
from gramian_s3.transport import S3Transport

SECRET = "wJalrXUtnFEMI/K7MDENG+secret"
KEYS = {"aws_access_key": "AKIAEXAMPLE", "aws_secret_key": SECRET}
GOOD = {"s3_bucket": "study-bucket", "aws_region": "US_EAST_1", **KEYS}
TOPIC = "arn:aws:sns:eu-west-3:123456789012:study"


@pytest.mark.parametrize("region", ["US_EAST_1", "us-east-1", "us_east_1", " Us-East-1 "])
def test_region_is_taken_in_either_spelling_and_given_in_the_contracts(region: str) -> None:
    """Java's name is what the contract's clients know."""
    checked = S3Transport().check_options({**GOOD, "aws_region": region})
    assert checked["aws_region"] == "US_EAST_1"
    assert parse_options(checked, ()).region == "us-east-1"


@pytest.mark.parametrize("key", ["aws_topic_region", "topic_region"])
def test_topics_region_is_taken_under_both_names(key: str) -> None:
    """It stands in the ARN already, and must not contradict that."""
    checked = S3Transport().check_options({**GOOD, "aws_topic_arn": TOPIC, key: "EU_WEST_3"})
    assert checked["aws_topic_region"] == "EU_WEST_3"
    with pytest.raises(InvalidRequest, match="aws_topic_region differs"):
        S3Transport().check_options({**GOOD, "aws_topic_arn": TOPIC, key: "US_EAST_1"})


def test_invitation_carries_the_place_and_no_credentials() -> None:
    """Every member brings its own access key, as the contract says."""
    options = {**GOOD, "aws_id": "123456789012", "aws_topic_arn": TOPIC}
    shared = S3Transport().shared_options(options)
    assert shared == {
        "s3_bucket": "study-bucket",
        "aws_region": "US_EAST_1",
        "aws_id": "123456789012",
        "aws_topic_arn": TOPIC,
        "aws_topic_region": "EU_WEST_3",
        "aws_req_timeout": "30",
        "s3_max_blob_bytes": str(2**30),
    }
    assert S3Transport().check_options({**shared, **KEYS}) == S3Transport().check_options(options)


BAD = {
    "no bucket": ({"s3_bucket": ""}, "s3_bucket is missing"),
    "bucket in capitals": ({"s3_bucket": "Study"}, "s3_bucket"),
    "bucket as a path": ({"s3_bucket": "../other"}, "s3_bucket"),
    "bucket with two dots": ({"s3_bucket": "a..b"}, "s3_bucket"),
    "bucket with a query": ({"s3_bucket": "a?b=c"}, "s3_bucket"),
    "no region": ({"aws_region": ""}, "aws_region is missing"),
    "region as a host": ({"aws_region": "evil.example/"}, "aws_region must be an AWS region"),
    "access key alone": ({"aws_secret_key": ""}, "go together"),
    "secret alone": ({"aws_access_key": ""}, "go together"),
    "no credentials": ({"aws_access_key": "", "aws_secret_key": ""}, "GRAMIAN_S3_ROLE_BUCKETS"),
    "access key with a line": ({"aws_access_key": "A\nB"}, "aws_access_key cannot be right"),
    "secret with a blank": ({"aws_secret_key": SECRET + " x"}, "aws_secret_key cannot be right"),
    "account in words": ({"aws_id": "mine"}, "aws_id cannot be right"),
    "topic by name": ({"aws_topic_arn": "study"}, "aws_topic_arn"),
    "FIFO topic": ({"aws_topic_arn": TOPIC + ".fifo"}, "aws_topic_arn"),
    "topic elsewhere": ({"aws_topic_arn": TOPIC.replace("eu-west-3", "a.b")}, "aws_topic_arn"),
    "topic's region alone": ({"aws_topic_region": "US_EAST_1"}, "aws_topic_arn"),
    "no patience": ({"aws_req_timeout": "0"}, "aws_req_timeout"),
    "endless patience": ({"aws_req_timeout": "forever"}, "aws_req_timeout"),
    "no room": ({"s3_max_blob_bytes": "-1"}, "s3_max_blob_bytes"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_option_is_refused_by_name_without_its_secret(case: str) -> None:
    """The text says which key, and never what was in it."""
    changes, words = BAD[case]
    with pytest.raises(InvalidRequest, match=words) as refused:
        S3Transport().check_options({**GOOD, **changes})
    assert SECRET not in str(refused.value)


def test_own_role_is_lent_for_listed_buckets_only() -> None:
    """Else whoever has an account on a node could have it write wherever its role may."""
    roleless = {"s3_bucket": "study-bucket", "aws_region": "us-east-1"}
    for lent in ({"study-bucket"}, {"other", "*"}):
        assert "aws_access_key" not in S3Transport(lent).check_options(roleless)
    for lent in (set(), {"other", "study"}):
        with pytest.raises(InvalidRequest, match="GRAMIAN_S3_ROLE_BUCKETS"):
            S3Transport(lent).open(roleless)


def test_own_role_is_lent_for_listed_topics_only() -> None:
    """A bucket that it is lent for opens no topic: whoever names one could have the node publish and listen there."""
    roleless = {"s3_bucket": "study-bucket", "aws_region": "us-east-1", "aws_topic_arn": TOPIC}
    for lent in ({TOPIC}, {"other", "*"}):
        assert S3Transport({"*"}, lent).check_options(roleless)["aws_topic_arn"] == TOPIC
    for lent in (set(), {TOPIC + "s"}):
        with pytest.raises(InvalidRequest, match="GRAMIAN_S3_ROLE_TOPICS"):
            S3Transport({"*"}, lent).check_options(roleless)
    assert S3Transport().check_options({**GOOD, "aws_topic_arn": TOPIC})


def test_plugin_reads_the_buckets_and_topics_from_its_options() -> None:
    """Joined by commas, with room for blanks."""
    environment = {"GRAMIAN_S3_ROLE_BUCKETS": "one, study-bucket", "GRAMIAN_S3_ROLE_TOPICS": f",{TOPIC} "}
    made = plugins.make("transport", "s3", Settings(environment=environment))
    assert made.check_options({"s3_bucket": "study-bucket", "aws_region": "us-east-1", "aws_topic_arn": TOPIC})


def test_plugin_without_boto3_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that never uses S3 need not have it."""
    monkeypatch.setattr("gramian_s3.find_spec", lambda _: None)
    with pytest.raises(PluginError, match=r"gramian\[s3\]"):
        plugins.make("transport", "s3", Settings())


def test_no_secret_shows_in_what_is_printed() -> None:
    """Checked options end up in tracebacks and logs."""
    assert SECRET not in repr(parse_options(GOOD, ()))
    assert S3Transport.secret_options == {"aws_secret_key"}


def test_documentation_names_every_option() -> None:
    """And none that is not there."""
    text = (Path(__file__).parents[3] / "docs" / "s3.md").read_text()
    table = text[text.index("| key | value |") : text.index("An invitation carries")]
    named = set(re.findall(r"`((?:aws|s3|topic)_[a-z_]+)`", table))
    given = {**GOOD, "aws_id": "123456789012", "aws_topic_arn": TOPIC}
    assert named == set(S3Transport().check_options(given)) | {"topic_region"}
