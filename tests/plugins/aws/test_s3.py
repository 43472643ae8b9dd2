"""Blobs on S3 beyond the contract: what is sent again and what is not, damage, many objects, permissions, words."""

from __future__ import annotations

import base64
import hashlib
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from gramian.errors import BlobCorrupt, BlobMissing, StoreError
from gramian_aws.s3 import PART_BYTES, S3BlobStore
from gramian_aws.s3_bucket import Bucket

LARGE = PART_BYTES * 2 + 1000


@pytest.fixture
def space():
    return str(uuid.uuid4())


@pytest.fixture
def store(s3, bucket):
    return S3BlobStore(Bucket(bucket, client=s3), prefix="node/")


@pytest.fixture
def watched(line, make_client, bucket):
    """Over the line that tells what is sent, and loses what a test says."""
    return S3BlobStore(Bucket(bucket, client=make_client("s3", line.url)), prefix="node/")


def key_of(space, digest):
    return f"node/{space}/{digest}"


def sent_bytes(line):
    return sum(len(seen.body) for seen in line.seen if seen.operation == "PUT")


# Storing


def test_put_is_conditional_and_carries_its_checksum(watched, line, space):
    """S3 stores nothing over what is there, and nothing that was damaged on the way."""
    watched.put(space, b"data")
    (put,) = line.seen
    assert put.headers["if-none-match"] == "*"
    assert base64.b64decode(put.headers["x-amz-checksum-sha256"]) == hashlib.sha256(b"data").digest()


@pytest.mark.parametrize("size_bytes", [1000, LARGE])
def test_put_again_copies_in_place(watched, line, space, size_bytes):
    """Its time is new, and a large one is not sent again."""
    data = b"x" * size_bytes
    digest = watched.put(space, data)
    line.seen.clear()
    assert watched.put(space, data) == digest
    copies = [seen for seen in line.seen if "x-amz-copy-source" in seen.headers]
    assert len(copies) == 1
    assert sent_bytes(line) <= 1000


def test_large_blob_goes_in_parts_that_are_checked(watched, line, store, space):
    """None larger than a part; together they are the blob."""
    data = bytes(range(256)) * (LARGE // 256)
    digest = watched.put(space, data)
    parts = [seen for seen in line.seen if "partNumber" in seen.path]
    assert len(parts) == 3
    assert max(len(seen.body) for seen in parts) < PART_BYTES * 1.01
    same = store.get(space, digest) == data
    assert same


def test_put_whose_answer_is_lost_succeeds(watched, line, store, space):
    """The repetition finds it there."""
    line.lose("PUT", 2)
    digest = watched.put(space, b"data")
    assert store.get(space, digest) == b"data"


def test_put_in_the_way_of_another_put_succeeds(watched, line, store, space):
    """S3 answers 409 while an upload of the same key is under way."""
    conflict = b"<Error><Code>ConditionalRequestConflict</Code><Message>at once</Message></Error>"
    line.refuse("PUT", 409, conflict)
    digest = watched.put(space, b"data")
    assert store.get(space, digest) == b"data"


@pytest.mark.parametrize("size_bytes", [1000, LARGE])
def test_put_repairs_damaged_blob(store, s3, bucket, space, size_bytes):
    """Reading it says that it is damaged and where it lies; storing it again makes it whole."""
    data = b"x" * size_bytes
    digest = store.put(space, data)
    s3.put_object(Bucket=bucket, Key=key_of(space, digest), Body=b"y" * size_bytes)
    with pytest.raises(BlobCorrupt, match=f"restore an older version of node/{space}/{digest} in bucket {bucket}"):
        store.get(space, digest)
    store.put(space, data)
    same = store.get(space, digest) == data
    assert same


def test_key_of_encryption_goes_with_every_write(line, make_client, bucket, space):
    """Also with copies and parts."""
    store = S3BlobStore(Bucket(bucket, kms_key="alias/blobs", client=make_client("s3", line.url)))
    for data in (b"x", b"x" * LARGE, b"x"):
        store.put(space, data)
    starts = [
        seen
        for seen in line.seen
        if (seen.operation == "PUT" and "partNumber" not in seen.path) or seen.path.endswith("?uploads")
    ]
    assert len(starts) == 4
    for seen in starts:
        assert seen.headers["x-amz-server-side-encryption"] == "aws:kms"
        assert seen.headers["x-amz-server-side-encryption-aws-kms-key-id"] == "alias/blobs"


# Reading


def test_answer_that_breaks_off_is_read_again(watched, line, store, space):
    """botocore leaves that to whoever reads the body."""
    digest = store.put(space, b"data" * 1000)
    line.cut("GET", 2)
    assert watched.get(space, digest) == b"data" * 1000
    assert line.count()["GET"] == 3


def test_answer_that_always_breaks_off_is_store_error(watched, line, store, space):
    """After a few tries."""
    digest = store.put(space, b"data" * 1000)
    line.cut("GET", 100)
    with pytest.raises(StoreError, match="try again"):
        watched.get(space, digest)


def test_read_of_a_span_moves_no_more(watched, line, space):
    """A ranged GET."""
    digest = watched.put(space, bytes(range(256)) * 1000)
    assert watched.read(space, digest, 256, 4) == bytes(range(4))
    (get,) = (seen for seen in line.seen if seen.operation == "GET")
    assert get.headers["range"] == "bytes=256-259"


def test_read_past_the_end_or_of_nothing_is_empty(store, space):
    """Of an empty blob too; of an absent one it is BlobMissing."""
    digest, empty = store.put(space, b"data"), store.put(space, b"")
    assert store.read(space, digest, 2, 100) == b"ta"
    assert store.read(space, digest, 4, 100) == b""
    assert store.read(space, digest, 0, 0) == b""
    assert store.read(space, empty, 0, 10) == b""
    absent = hashlib.sha256(b"absent").hexdigest()
    for size in (0, 10):
        with pytest.raises(BlobMissing):
            store.read(space, absent, 0, size)


@pytest.mark.parametrize("space", ["", "..", "a/b", "A", "a" * 65, "x"])
def test_space_that_could_leave_its_prefix_is_value_error(store, space):
    """Spaces are 1 to 64 of 0-9, a-f and -."""
    for call in (lambda: store.put(space, b""), lambda: list(store.list(space)), lambda: store.clear(space)):
        with pytest.raises(ValueError, match="a space is"):
            call()


@pytest.mark.parametrize("digest", ["", "../x", "A" * 64, "a" * 63])
def test_digest_that_is_none_is_value_error(store, digest):
    """Digests are 64 of 0-9 and a-f."""
    with pytest.raises(ValueError, match="a digest is"):
        store.get("aa", digest)


# Many


def test_list_and_clear_of_more_than_a_page(store, s3, bucket, space):
    """S3 gives and removes a thousand at a time; what is no blob is not listed, and removed too."""
    digests = {hashlib.sha256(b"%d" % number).hexdigest() for number in range(1001)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda digest: s3.put_object(Bucket=bucket, Key=key_of(space, digest), Body=b""), digests))
    s3.put_object(Bucket=bucket, Key=f"node/{space}/stray", Body=b"")
    listed = [info.digest for info in store.list(space)]
    assert listed == sorted(digests)
    store.clear(space)
    assert list(store.list(space)) == []
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket, Prefix=f"node/{space}/")


def test_clear_that_leaves_something_is_store_error(watched, line, space):
    """S3 answers 200 and names what it did not remove."""
    digest = watched.put(space, b"data")
    body = f"<DeleteResult><Error><Key>{key_of(space, digest)}</Key><Code>AccessDenied</Code></Error></DeleteResult>"
    line.refuse("POST", 200, body.encode())
    with pytest.raises(StoreError, match=f"does not remove node/{space}/{digest} from bucket .*allow s3:DeleteObject"):
        watched.clear(space)


def test_stores_with_other_prefixes_share_a_bucket(s3, bucket, space):
    """Two nodes, one bucket."""
    first, second = (S3BlobStore(Bucket(bucket, client=s3), prefix=prefix) for prefix in ("one/", "one/two/"))
    digest = first.put(space, b"data")
    assert list(second.list(space)) == []
    second.put(space, b"data")
    second.clear(space)
    assert first.get(space, digest) == b"data"


# What is wrong, in words


def test_missing_bucket_is_named(s3, space):
    """With what to do."""
    store = S3BlobStore(Bucket("gramian-absent", client=s3))
    for call in (lambda: store.put(space, b"data"), lambda: list(store.list(space))):
        with pytest.raises(StoreError, match="no bucket gramian-absent in this account and region: create it"):
            call()


def test_get_from_missing_bucket_is_no_missing_blob(s3, space):
    """A wrong name must not look as if data were lost."""
    store = S3BlobStore(Bucket("gramian-absent", client=s3))
    with pytest.raises(StoreError) as raised:
        store.get(space, hashlib.sha256(b"").hexdigest())
    assert not isinstance(raised.value, BlobMissing)


def test_missing_permission_names_action_and_bucket(limited_client, store, bucket, space):
    """Without leave to list, S3 says "denied" of what is absent: the text tells that too."""
    digest = store.put(space, b"data")
    denied = S3BlobStore(Bucket(bucket, client=limited_client("s3", ["s3:ListAllMyBuckets"])), prefix="node/")
    calls = {
        "s3:PutObject": lambda: denied.put(space, b"more"),
        "s3:GetObject .and s3:ListBucket, to be told what is absent.": lambda: denied.get(space, digest),
        "s3:DeleteObject": lambda: denied.delete(space, digest),
        "s3:ListBucket": lambda: list(denied.list(space)),
    }
    for action, call in calls.items():
        with pytest.raises(StoreError, match=f"do {action} on bucket {bucket}: allow that in the policy"):
            call()


def test_four_permissions_are_enough(limited_client, bucket, space):
    """For everything, large blobs included."""
    actions = [f"s3:{each}" for each in ("GetObject", "PutObject", "DeleteObject", "ListBucket")]
    store = S3BlobStore(Bucket(bucket, client=limited_client("s3", actions)), prefix="node/")
    for data in (b"data", b"x" * LARGE):
        digest = store.put(space, data)
        store.put(space, data)
        same = store.get(space, digest) == data
        assert same
    assert len(list(store.list(space))) == 2
    with pytest.raises(BlobMissing):
        store.get(space, hashlib.sha256(b"absent").hexdigest())
    store.delete(space, digest)
    store.clear(space)


def test_unreachable_server_is_store_error(make_client, bucket, space):
    """Nothing listens there."""
    store = S3BlobStore(Bucket(bucket, client=make_client("s3", "http://127.0.0.1:9")))
    started = time.monotonic()
    with pytest.raises(StoreError, match=f"AWS cannot be reached for bucket {bucket}"):
        store.get(space, hashlib.sha256(b"").hexdigest())
    assert time.monotonic() - started < 30
