"""Lost answers of AWS's own engine, which keeps tokens and tells a repeated put what stands there."""

from __future__ import annotations

import time
import uuid

import pytest

from gramian.ports import ABSENT, Delete, Put
from gramian_aws.dynamodb import DynamoStateStore
from gramian_aws.dynamodb_table import Table
from gramian_aws.tokens import DynamoTokenStore

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def engine(dynamodb_local, make_client):
    return make_client("dynamodb", dynamodb_local)


@pytest.fixture(scope="session")
def name(engine, make_table):
    return make_table(engine)


@pytest.fixture
def partition():
    return f"test-{uuid.uuid4().hex}"


def test_lost_answers_are_repeated_without_harm(open_line, dynamodb_local, make_client, engine, name, partition):
    """AWS's engine keeps tokens, and tells a repeated put what stands there."""
    line = open_line(dynamodb_local)
    good = DynamoStateStore(Table(name, engine))
    lossy = DynamoStateStore(Table(name, make_client("dynamodb", line.url)))
    line.lose("PutItem", 2)
    lossy.write(Put(partition, "a", b"1", ABSENT))
    line.lose("TransactWriteItems", meanwhile=lambda: good.write(Put(partition, "b", b"theirs")))
    lossy.write(Put(partition, "b", b"1", ABSENT), Delete(partition, "a", good.get(partition, "a").version))
    assert [(key, item.value) for key, item in good.query(partition)] == [("b", b"theirs")]
    tokens = DynamoTokenStore(Table(name, make_client("dynamodb", line.url)))
    line.lose("PutItem", 2)
    now = time.time()
    assert tokens.claim(partition, b"mine", now=now, expires_at=now + 60) is None
    assert tokens.claim(partition, b"late", now=now, expires_at=now + 60) == b"mine"
