"""Uploads on S3: the contract, and reading over a line that breaks."""

from __future__ import annotations

import http.client
import secrets
import time
from urllib.parse import parse_qs, urlsplit

import pytest

from gramian.errors import BlobMissing, StoreError
from gramian.testing.uploads import UploadStoreContract
from gramian_aws.s3_bucket import Bucket
from gramian_aws.s3_uploads import S3UploadStore


@pytest.fixture
def store(s3, bucket):
    return S3UploadStore(Bucket(bucket, client=s3), prefix="node/")


@pytest.fixture
def watched(line, make_client, bucket):
    """Over the line that breaks when a test says so."""
    return S3UploadStore(Bucket(bucket, client=make_client("s3", line.url)), prefix="node/")


@pytest.fixture
def put():
    def send(ticket, data):
        url = urlsplit(ticket.url)
        connection = http.client.HTTPConnection(url.netloc, timeout=60)
        connection.request("PUT", f"{url.path}?{url.query}", data, dict(ticket.headers))
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status

    return send


@pytest.fixture
def space():
    return secrets.token_hex(16)


def ticket(store, space, name="a1", size_bytes=3):
    return store.ticket(space, name, size_bytes=size_bytes, expires_at=int(time.time()) + 600)


class TestUploads(UploadStoreContract):
    """Nothing to add: `store` and `put` are those of this module."""

    @pytest.fixture
    def store(self, s3, bucket):
        return S3UploadStore(Bucket(bucket, client=s3), prefix="node/")

    @pytest.fixture
    def put(self, put):
        return put

    @pytest.fixture
    def unreachable(self, silent, make_client):
        return lambda: S3UploadStore(Bucket("bucket", client=make_client("s3", silent)), prefix="node/")


def test_ticket_signs_name_size_type_and_that_nothing_is_there(store, space):
    """What AWS then enforces, whatever an emulator does."""
    made = store.ticket(space, "a1", size_bytes=1234, expires_at=int(time.time()) + 600)
    url = urlsplit(made.url)
    query = parse_qs(url.query)
    assert url.path == f"/gramian-blobs/node/uploads/{space}/a1"
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-SignedHeaders"] == ["content-length;content-type;host;if-none-match"]
    assert 595 <= int(query["X-Amz-Expires"][0]) <= 600
    assert made.headers == {"Content-Type": "application/octet-stream", "If-None-Match": "*"}


def test_ticket_names_the_key_of_encryption(s3, bucket, space, put):
    """Signed, and to be sent."""
    store = S3UploadStore(Bucket(bucket, kms_key="alias/uploads", client=s3))
    made = ticket(store, space)
    assert made.headers["x-amz-server-side-encryption-aws-kms-key-id"] == "alias/uploads"
    assert "x-amz-server-side-encryption-aws-kms-key-id" in made.url
    assert put(made, b"abc") < 300


def test_upload_that_has_arrived_is_not_overwritten(store, space, put):
    """The ticket is good once."""
    made = ticket(store, space)
    assert put(made, b"abc") < 300
    assert put(made, b"xyz") == 412
    with store.open(space, "a1", store.find(space, "a1").tag) as file:
        assert file.read() == b"abc"


def test_reading_goes_on_after_a_broken_answer(watched, store, line, space, put):
    """From where it broke off, not from the start."""
    data = secrets.token_bytes(5_000_000)
    assert put(ticket(store, space, size_bytes=len(data)), data) < 300
    line.cut("GET", 2)
    with watched.open(space, "a1", store.find(space, "a1").tag) as file:
        same = file.read() == data
    assert same
    ranges = [seen.headers["range"] for seen in line.seen if seen.operation == "GET"]
    assert ranges[0] == "bytes=0-"
    assert len(ranges) == len(set(ranges)) == 3


def test_reading_in_order_is_one_request(watched, store, line, space, put):
    """However small the pieces."""
    data = b"".join(b"%d,%d\n" % (number, number) for number in range(300_000))
    put(ticket(store, space, size_bytes=len(data)), data)
    with watched.open(space, "a1", store.find(space, "a1").tag) as file:
        assert sum(1 for _ in file) == 300_000
    assert line.count()["GET"] == 1


def test_upload_that_changes_while_it_is_read_is_store_error(watched, store, s3, bucket, space, put):
    """Neither the old rows nor the new ones are complete then."""
    data = bytes(3_000_000)
    put(ticket(store, space, size_bytes=len(data)), data)
    with watched.open(space, "a1", store.find(space, "a1").tag) as file:
        file.read(1000)
        s3.put_object(Bucket=bucket, Key=f"node/uploads/{space}/a1", Body=b"x" * len(data))
        file.seek(2_000_000)
        with pytest.raises(StoreError, match="while it was being read") as raised:
            file.read(10)
    assert not isinstance(raised.value, BlobMissing)


def test_expire_removes_old_uploads_only(store, bucket, s3, space, put):
    """And no blob."""
    s3.put_object(Bucket=bucket, Key=f"node/{space}/blob", Body=b"")
    put(ticket(store, space), b"abc")
    store.expire(time.time() - 60)
    assert store.find(space, "a1") is not None
    store.expire(time.time() + 60)
    assert store.find(space, "a1") is None
    s3.head_object(Bucket=bucket, Key=f"node/{space}/blob")


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "a" * 65])
def test_name_that_could_leave_its_prefix_is_value_error(store, space, name):
    """Names and spaces are hex digits."""
    with pytest.raises(ValueError, match="0-9 and a-f"):
        ticket(store, space, name)
    with pytest.raises(ValueError, match="0-9 and a-f"):
        ticket(store, name)
