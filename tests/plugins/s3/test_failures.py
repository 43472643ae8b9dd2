"""An AWS that is away, silent, slow, busy or forgetful, and objects that others put in the way."""

from __future__ import annotations

import logging
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from gramian.errors import (
    ContentMissing,
    GramianError,
    Refused,
    RevisionConflict,
    TransportFull,
    TransportRefused,
    TransportUnavailable,
)
from gramian_s3 import keys
from gramian_s3.bucket import Bucket, Meter
from gramian_s3.calls import Pace
from gramian_s3.options import parse_options
from gramian_s3.transport import MAX_HEAD_BYTES, S3Link, S3Transport

PEER, OTHER = "ab" * 16, "cd" * 16
MIB = 2**20
SECRET = "a-secret-access-key"
GIVEN = {"s3_bucket": "study", "aws_region": "us-east-1", "aws_access_key": "AKIA", "aws_secret_key": SECRET}


@pytest.fixture
def line(emulator: Any, proxy_to: Callable[..., Any], options: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Between this process's boto3 and the emulator."""
    proxy = proxy_to(int(emulator.url.rpartition(":")[2]), "http")
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    return proxy


@pytest.fixture
def link(request: pytest.FixtureRequest, line: Any, transport: S3Transport, options: Any, fed_id: str) -> S3Link:
    """With little patience, or as much as a test asks for."""
    link = transport.open({**options, "aws_req_timeout": str(getattr(request, "param", 1))})
    link.create(fed_id, max_blob_bytes=64 * MIB)
    return link


@pytest.fixture
def mute_server() -> Iterator[str]:
    """Accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_unreachable_endpoint_is_unavailable(monkeypatch: pytest.MonkeyPatch, transport: S3Transport) -> None:
    """And the text doesn't hold what was sent."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(TransportUnavailable, match="cannot be reached") as failed:
        transport.open({**GIVEN, "aws_req_timeout": "2"})
    assert SECRET not in str(failed.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("AWS_PROFILE", "nobody"), ("AWS_ENDPOINT_URL", "no address"), ("AWS_CA_BUNDLE", "/nowhere")],
)
def test_environment_of_the_node_that_cannot_work_is_an_error_of_the_transport(
    monkeypatch: pytest.MonkeyPatch, transport: S3Transport, variable: str, value: str
) -> None:
    """Said in words to whoever founds or joins, not a failure of the server."""
    monkeypatch.setenv(variable, value)
    with pytest.raises((TransportRefused, TransportUnavailable), match=r"boto3|bucket"):
        transport.open({**GIVEN, "aws_req_timeout": "2"})


CALLS: dict[str, Callable[[S3Link, str], object]] = {
    "create": lambda link, fed_id: link.create(fed_id, max_blob_bytes=MIB),
    "destroy": lambda link, fed_id: link.destroy(fed_id),
    "cut": lambda link, fed_id: link.cut(fed_id, [PEER]),
    "first head": lambda link, fed_id: link.put_head(fed_id, PEER, b"head", expect=None),
    "next head": lambda link, fed_id: link.put_head(fed_id, PEER, b"head", expect='"0"'),
    "put_blob": lambda link, fed_id: link.put_blob(fed_id, PEER, "01", [bytes(MIB)] * 20),
    "get_blob": lambda link, fed_id: link.get_blob(fed_id, PEER, "01", 20, max_bytes=MIB),
    "missing_chunks": lambda link, fed_id: link.missing_chunks(fed_id, PEER, "01", 20),
    "free_blob": lambda link, fed_id: link.free_blob(fed_id, PEER, "01", 20),
    "nudge": lambda link, fed_id: link.nudge(fed_id, b"news"),
    "listen": lambda link, fed_id: link.listen(fed_id, PEER, print),
}


def test_every_call_to_a_mute_server_ends_in_time(
    mute_server: str, options: dict[str, str], monkeypatch: pytest.MonkeyPatch, fed_id: str
) -> None:
    """One that accepts and never answers costs no more than the request timeout, opening included."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", mute_server)
    monkeypatch.setattr(S3Link, "check", lambda _: None)
    transport = S3Transport()
    durations: dict[str, float] = {}

    def attempt(name: str) -> None:
        link = transport.open({**options, "aws_req_timeout": "1"})
        started = time.monotonic()
        with pytest.raises(TransportUnavailable, match="did not answer in time"):
            CALLS[name](link, fed_id)
        link.close()
        durations[name] = time.monotonic() - started

    threads = [threading.Thread(target=attempt, args=(name,)) for name in CALLS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    transport.close()
    assert set(durations) == set(CALLS)
    assert all(0.4 < duration < 2.5 for duration in durations.values()), durations
    monkeypatch.undo()
    monkeypatch.setenv("AWS_ENDPOINT_URL", mute_server)
    started = time.monotonic()
    with pytest.raises(TransportUnavailable, match="did not answer in time"):
        S3Transport().open({**options, "aws_req_timeout": "1"})
    assert time.monotonic() - started < 2.5


def test_blob_over_a_thin_line_takes_longer_than_the_timeout(link: S3Link, line: Any, fed_id: str) -> None:
    """The request timeout bounds the wait for the next sign of life, not the whole transfer."""
    line.bytes_per_s = 0.8 * MIB
    chunks = [secrets.token_bytes(MIB // 2) for _ in range(20)]
    started = time.monotonic()
    link.put_blob(fed_id, PEER, "01", chunks)
    assert time.monotonic() - started > 1.2
    started = time.monotonic()
    assert link.get_blob(fed_id, PEER, "01", 20, max_bytes=10 * MIB) == chunks
    assert time.monotonic() - started > 1.2


def test_dead_line_is_given_up_and_the_link_goes_on_later(link: S3Link, line: Any, fed_id: str) -> None:
    """Nobody says that the connections are gone."""
    line.is_dead = True
    started = time.monotonic()
    with pytest.raises(TransportUnavailable, match="did not answer in time"):
        link.cut(fed_id, [])
    assert time.monotonic() - started < 2.5
    line.is_dead = False
    line.cut_all()
    assert link.cut(fed_id, []).roster is None


def test_blob_cut_in_the_middle_gets_through_by_itself(link: S3Link, line: Any, fed_id: str) -> None:
    """A piece that failed is sent and fetched again."""
    chunks = [secrets.token_bytes(MIB) for _ in range(4)]
    line.cut_after(MIB)
    link.put_blob(fed_id, PEER, "01", chunks)
    assert link.missing_chunks(fed_id, PEER, "01", 4) == []
    assert link.get_blob(fed_id, PEER, "01", 4, max_bytes=8 * MIB) == chunks


def test_download_cut_in_the_middle_is_unavailable(link: S3Link, line: Any, fed_id: str) -> None:
    """Never a shorter blob; the next attempt gets it."""
    chunks = [secrets.token_bytes(2 * MIB)]
    link.put_blob(fed_id, PEER, "01", chunks)
    line.cut_after(MIB)
    with pytest.raises(TransportUnavailable):
        link.get_blob(fed_id, PEER, "01", 1, max_bytes=8 * MIB)
    assert link.get_blob(fed_id, PEER, "01", 1, max_bytes=8 * MIB) == chunks


@pytest.mark.parametrize("link", [10], indirect=True)
@pytest.mark.parametrize("lost", [1, 3])
def test_lost_answer_to_a_write_is_no_conflict(link: S3Link, line: Any, fed_id: str, lost: int) -> None:
    """The repetition finds what the first attempt wrote, or the reading back does: it counts as written."""
    first = link.put_head(fed_id, PEER, b"one", expect=None)
    line.lose_answers(lost)
    second = link.put_head(fed_id, PEER, b"two", expect=first)
    entry = link.cut(fed_id, [PEER]).heads[PEER]
    assert (entry.data, entry.revision) == (b"two", second)


@pytest.mark.parametrize("link", [10], indirect=True)
@pytest.mark.parametrize("lost", [1, 3])
def test_lost_answer_to_a_write_that_lost_the_race_is_a_conflict(
    link: S3Link, line: Any, fed_id: str, lost: int
) -> None:
    """What stands there is somebody else's."""
    first = link.put_head(fed_id, PEER, b"one", expect=None)
    link.put_head(fed_id, PEER, b"theirs", expect=first)
    line.lose_answers(lost)
    with pytest.raises(RevisionConflict):
        link.put_head(fed_id, PEER, b"mine", expect=first)
    assert link.cut(fed_id, [PEER]).heads[PEER].data == b"theirs"


def test_same_bytes_again_are_a_conflict_all_the_same(link: S3Link, fed_id: str) -> None:
    """Only a lost answer excuses finding one's own bytes."""
    link.put_head(fed_id, PEER, b"one", expect=None)
    with pytest.raises(RevisionConflict):
        link.put_head(fed_id, PEER, b"one", expect=None)


def test_endless_head_and_roster_are_cut_off(link: S3Link, aws: Any, options: dict[str, str], fed_id: str) -> None:
    """A member can put what it likes there: it costs the others little, and hides nobody else's head."""
    link.put_head(fed_id, OTHER, b"genuine", expect=None)
    for key in (keys.head(fed_id, PEER), keys.roster(fed_id)):
        aws("s3").put_object(Bucket=options["s3_bucket"], Key=key, Body=bytes(40 * MIB))
    before = link.traffic().received_bytes
    cut = link.cut(fed_id, [PEER, OTHER])
    assert len(cut.heads[PEER].data) == MAX_HEAD_BYTES
    assert cut.heads[OTHER].data == b"genuine"
    assert link.traffic().received_bytes - before < 2 * MIB
    link.put_head(fed_id, PEER, b"restored", expect=cut.heads[PEER].revision)
    assert link.cut(fed_id, [PEER]).heads[PEER].data == b"restored"


def test_blob_larger_than_announced_is_not_read(link: S3Link, fed_id: str) -> None:
    """S3 says how long an object is before it sends it."""
    link.put_blob(fed_id, PEER, "01", [bytes(6 * MIB)])
    before = link.traffic().received_bytes
    with pytest.raises(Refused, match="larger than the 1000 bytes"):
        link.get_blob(fed_id, PEER, "01", 1, max_bytes=1000)
    assert link.traffic().received_bytes == before


def test_blob_in_a_thousand_pieces_that_are_not_there_costs_few_requests(
    link: S3Link, fed_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member's head may claim as many; the first that is missing ends it."""
    asked: list[str] = []
    fetch = Bucket.fetch
    monkeypatch.setattr(
        Bucket, "fetch", lambda bucket, key, *rest, **keys: (asked.append(key), fetch(bucket, key, *rest, **keys))
    )
    with pytest.raises(ContentMissing):
        link.get_blob(fed_id, PEER, "01", 1_000, max_bytes=MIB)
    assert len(asked) < 50


def test_removal_of_what_somebody_puts_back_all_the_time_ends(
    link: S3Link, fed_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says so; the place is gone from the first moment on."""
    monkeypatch.setattr("gramian_s3.transport.MAX_SWEEPS", 5)
    monkeypatch.setattr(Bucket, "listed", lambda _, prefix: [f"{prefix}again"])
    with pytest.raises(TransportUnavailable, match="more objects"):
        link.destroy(fed_id)
    with pytest.raises(ContentMissing):
        link.cut(fed_id, [])


def test_blob_above_the_federations_limit_is_full(transport: S3Transport, options: dict[str, str], fed_id: str) -> None:
    """S3 would take it; the other members would not."""
    link = transport.open({**options, "s3_max_blob_bytes": str(MIB)})
    link.create(fed_id, max_blob_bytes=MIB)
    with pytest.raises(TransportFull, match="s3_max_blob_bytes"):
        link.put_blob(fed_id, PEER, "01", [bytes(MIB), b"x"])
    assert link.missing_chunks(fed_id, PEER, "01", 2) == [0, 1]


def test_entry_that_others_would_cut_off_is_not_written(link: S3Link, fed_id: str) -> None:
    """A mistake of the caller."""
    with pytest.raises(ValueError, match="at most"):
        link.put_head(fed_id, PEER, bytes(MAX_HEAD_BYTES + 1), expect=None)


def test_destroyed_place_takes_no_next_head(link: S3Link, fed_id: str) -> None:
    """Also from a writer that knows the revision it would replace; made anew, it is a conflict."""
    first = link.put_head(fed_id, PEER, b"one", expect=None)
    link.destroy(fed_id)
    with pytest.raises(ContentMissing):
        link.put_head(fed_id, PEER, b"two", expect=first)
    link.create(fed_id, max_blob_bytes=MIB)
    with pytest.raises(RevisionConflict):
        link.put_head(fed_id, PEER, b"two", expect=first)


def test_destroy_removes_all_that_lies_there_and_nothing_else(
    link: S3Link, aws: Any, options: dict[str, str], fed_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than one listing shows, and what strangers left; not what only begins alike."""
    monkeypatch.setattr("gramian_s3.bucket.MAX_DELETES", 10)
    s3, bucket = aws("s3"), {"Bucket": options["s3_bucket"]}
    for index in range(25):
        s3.put_object(**bucket, Key=f"grm/{fed_id}/junk/{index}", Body=b"x")
    s3.put_object(**bucket, Key=f"grm/{fed_id}0/place", Body=b"another federation")
    link.destroy(fed_id)
    left = s3.list_objects_v2(**bucket)["Contents"]
    assert [found["Key"] for found in left] == [f"grm/{fed_id}0/place"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"s3_bucket": "no-such-bucket-anywhere"}, "no-such-bucket-anywhere does not exist: check s3_bucket"),
        ({"aws_access_key": "AKIANOBODY"}, "check aws_access_key"),
        ({"aws_secret_key": SECRET}, "check aws_secret_key"),
    ],
)
def test_wrong_option_is_refused_at_once_by_name(
    aws: Any, transport: S3Transport, options: dict[str, str], changes: dict[str, str], words: str
) -> None:
    """At create and join, not at some pulse later."""
    if "aws_secret_key" in changes:
        aws("iam").create_user(UserName="known")
        made = aws("iam").create_access_key(UserName="known")["AccessKey"]
        changes = {**changes, "aws_access_key": made["AccessKeyId"]}
    with pytest.raises(TransportRefused, match=words) as refused:
        transport.open({**options, **changes})
    assert SECRET not in str(refused.value)


def test_bucket_of_another_account_is_refused(transport: S3Transport, options: dict[str, str], fed_id: str) -> None:
    """A bucket that was deleted can be made anew by anybody: aws_id tells."""
    calls: list[dict[str, Any]] = []
    link = transport.open({**options, "aws_id": "111122223333"})
    link._bucket._client.meta.events.register("provide-client-params.s3", lambda params, **_: calls.append(params))
    link.create(fed_id, max_blob_bytes=MIB)
    link.put_roster(fed_id, b"roster", expect=None)
    link.put_blob(fed_id, PEER, "01", [b"x"])
    link.get_blob(fed_id, PEER, "01", 1, max_bytes=9)
    link.cut(fed_id, [PEER])
    link.destroy(fed_id)
    assert len(calls) > 10
    assert {params.get("ExpectedBucketOwner") for params in calls} == {"111122223333"}


# What an emulator does not do: stubbed answers


@pytest.fixture
def stubbed() -> Iterator[tuple[Bucket, Stubber]]:
    client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="AKIA", aws_secret_access_key=SECRET)
    with Stubber(client) as stubber:
        yield Bucket(client, parse_options(GIVEN, ()), Meter()), stubber


ERRORS: dict[str, tuple[int, type[GramianError], str]] = {
    "PreconditionFailed": (412, RevisionConflict, "another revision"),
    "ConditionalRequestConflict": (409, RevisionConflict, "somebody else"),
    "NoSuchBucket": (404, TransportRefused, "check s3_bucket"),
    "InvalidAccessKeyId": (403, TransportRefused, "check aws_access_key"),
    "SignatureDoesNotMatch": (403, TransportRefused, "check aws_secret_key"),
    "AccessDenied": (403, TransportRefused, "check the policy of the user of aws_access_key"),
    "ExpiredToken": (400, TransportRefused, "expired"),
    "RequestTimeTooSkewed": (403, TransportRefused, "clock"),
    "PermanentRedirect": (301, TransportRefused, "check aws_region"),
    "AuthorizationHeaderMalformed": (400, TransportRefused, "check aws_region"),
    "NotImplemented": (501, TransportRefused, "a bucket of AWS S3"),
    "KMS.DisabledException": (400, TransportRefused, "refuses: what the service said"),
    "SlowDown": (503, TransportUnavailable, "busy"),
    "InternalError": (500, TransportUnavailable, "busy"),
    "XMinioStorageFull": (507, TransportFull, "no room"),
    "SomethingNew": (400, TransportRefused, "refuses: what the service said"),
}


@pytest.mark.parametrize("code", ERRORS)
def test_error_of_s3_becomes_one_that_says_what_to_do(stubbed: tuple[Bucket, Stubber], code: str) -> None:
    """By one table; what AWS says of itself is quoted on one short line."""
    bucket, stubber = stubbed
    status, kind, words = ERRORS[code]
    stubber.add_client_error("put_object", code, "what the service said\nand more" * 100, status)
    with pytest.raises(kind, match=words) as failed:
        bucket.store("key", b"data", Pace(10))
    assert type(failed.value) is kind
    assert len(str(failed.value)) < 400
    assert str(failed.value).isprintable()


@pytest.mark.parametrize("operation", ["head_object", "get_object"])
def test_object_that_is_forbidden_because_it_is_absent_is_absent(
    stubbed: tuple[Bucket, Stubber], operation: str
) -> None:
    """S3 says 403 to whoever may list only the federation's part of the bucket."""
    bucket, stubber = stubbed
    stubber.add_client_error(operation, "AccessDenied" if operation == "get_object" else "403", "Forbidden", 403)
    stubber.add_response("list_objects_v2", {"Contents": [{"Key": "key0"}]})
    found = bucket.revision("key") if operation == "head_object" else bucket.read("key", Pace(10), 100)
    assert found is None


@pytest.mark.parametrize("listing", ["there", "forbidden"])
def test_object_that_is_forbidden_is_refused(stubbed: tuple[Bucket, Stubber], listing: str) -> None:
    """Nothing is taken for absent that may be there."""
    bucket, stubber = stubbed
    stubber.add_client_error("get_object", "AccessDenied", "not authorized to perform: s3:GetObject", 403)
    if listing == "there":
        stubber.add_response("list_objects_v2", {"Contents": [{"Key": "key"}]})
    else:
        stubber.add_client_error("list_objects_v2", "AccessDenied", "s3:ListBucket", 403)
    with pytest.raises(TransportRefused, match="s3:GetObject"):
        bucket.read("key", Pace(10), 100)


def test_store_that_ignores_conditions_is_refused(stubbed: tuple[Bucket, Stubber]) -> None:
    """Without them two writers would overwrite each other unseen."""
    bucket, stubber = stubbed
    stubber.add_response("put_object", {"ETag": '"1"'})
    with pytest.raises(TransportRefused, match="conditional writes"):
        bucket.require_conditions("key", Pace(10))


def test_removal_that_fails_for_one_object_fails(stubbed: tuple[Bucket, Stubber]) -> None:
    """The answer as a whole is a success."""
    bucket, stubber = stubbed
    stubber.add_response(
        "delete_objects", {"Errors": [{"Key": "b", "Code": "AccessDenied", "Message": "s3:DeleteObject"}]}
    )
    with pytest.raises(TransportRefused, match="s3:DeleteObject"):
        bucket.remove(["a", "b"])


def test_nothing_secret_is_logged(
    transport: S3Transport, options: dict[str, str], fed_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By this plugin, whatever level; what boto3 logs when it is told to debug is its own."""
    caplog.set_level(logging.DEBUG, logger="gramian_s3")
    link = transport.open(options)
    link.create(fed_id, max_blob_bytes=MIB)
    stop = link.listen(fed_id, PEER, print)
    stop()
    told = [record.getMessage() for record in caplog.records if record.name.startswith("gramian")]
    assert not any(options["aws_secret_key"] in text.split() for text in told)


def test_checking_options_imports_no_boto3() -> None:
    """A function that only answers requests about federations does not pay for it."""
    code = (
        "from gramian import plugins; from gramian.settings import Settings; import sys;"
        "t = plugins.make('transport', 's3', Settings());"
        f"t.check_options({GIVEN!r}); t.limits({GIVEN!r});"
        "print([name for name in ('boto3', 'botocore') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
