"""Claims on DynamoDB when answers get lost, and what of a key is stored."""

from __future__ import annotations

import time
import uuid

import pytest

from gramian.errors import StoreError
from gramian_aws.dynamodb_table import Table
from gramian_aws.tokens import DynamoTokenStore


@pytest.fixture
def key():
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
def store(dynamodb, table_name):
    return DynamoTokenStore(Table(table_name, dynamodb))


@pytest.fixture
def lossy(line, make_client, table_name):
    return DynamoTokenStore(Table(table_name, make_client("dynamodb", line.url), patience_s=3))


@pytest.fixture
def now():
    return time.time()


def claim(store, key, value, now):
    return store.claim(key, value, now=now, expires_at=now + 60)


def test_claim_whose_answer_is_lost_is_won(lossy, line, store, key, now):
    """The repetition finds the key taken, by itself."""
    line.lose("PutItem", 2)
    assert claim(lossy, key, b"mine", now) is None
    assert line.count()["PutItem"] == 3
    assert claim(store, key, b"late", now) == b"mine"


def test_claim_of_same_value_by_another_is_lost_although_an_answer_was_lost(lossy, line, store, key, now):
    """Equal values do not make it the same claim: a replayed request carries the same."""
    claim(store, key, b"same", now)
    line.lose("PutItem")
    assert claim(lossy, key, b"same", now) == b"same"


def test_replace_whose_answer_is_lost_is_done(lossy, line, store, key, now):
    """Although the old value is gone when it is repeated."""
    claim(store, key, b"running", now)
    line.lose("UpdateItem")
    assert lossy.replace(key, b"done", expect=b"running", now=now, expires_at=now + 600)
    assert claim(store, key, b"late", now) == b"done"


def test_replace_whose_answer_is_lost_and_that_was_replaced_is_not_reported_as_failed(lossy, line, store, key, now):
    """It may have been done: nobody knows, and that is said."""
    claim(store, key, b"1", now)
    line.lose("UpdateItem", meanwhile=lambda: store.replace(key, b"3", expect=b"2", now=now, expires_at=now + 60))
    with pytest.raises(StoreError, match="is not known"):
        lossy.replace(key, b"2", expect=b"1", now=now, expires_at=now + 60)
    assert claim(store, key, b"late", now) == b"3"


def test_release_whose_answer_is_lost_is_done(lossy, line, store, key, now):
    """The key is free when it is repeated."""
    claim(store, key, b"mine", now)
    line.lose("DeleteItem")
    assert lossy.release(key, expect=b"mine")
    assert claim(store, key, b"next", now) is None


def test_losing_claim_asks_once(lossy, line, store, key, now):
    """The holder comes with the refusal."""
    claim(store, key, b"theirs", now)
    assert claim(lossy, key, b"mine", now) == b"theirs"
    assert line.count() == {"PutItem": 1}


def test_key_is_stored_as_its_hash(lossy, line, now):
    """Keys may be signatures, and of any length."""
    secret = "signature" * 1000
    assert claim(lossy, secret, b"", now) is None
    assert claim(lossy, secret, b"", now) == b""
    assert not any(b"signature" in seen.body for seen in line.seen)


def test_claims_need_no_permission_to_read(limited_client, table_name, key, now):
    """PutItem, UpdateItem and DeleteItem, as little as that."""
    actions = [f"dynamodb:{each}" for each in ("PutItem", "UpdateItem", "DeleteItem")]
    store = DynamoTokenStore(Table(table_name, limited_client("dynamodb", actions)))
    assert claim(store, key, b"1", now) is None
    assert claim(store, key, b"", now) == b"1"
    assert store.replace(key, b"2", expect=b"1", now=now, expires_at=now + 60)
    assert store.release(key, expect=b"2")
