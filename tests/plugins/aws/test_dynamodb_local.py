"""The stores on AWS's own DynamoDB Local: its transactions, tokens and refusals are the real ones."""

from __future__ import annotations

import time
import uuid

import pytest

from gramian.errors import ConditionFailed
from gramian.ports import ABSENT, Delete, Put
from gramian.testing.state import StateStoreContract, race
from gramian.testing.tokens import TokenStoreContract
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


class TestState(StateStoreContract):
    @pytest.fixture
    def open_again(self, clock, engine, name):
        return lambda: DynamoStateStore(Table(name, engine), clock=clock)

    @pytest.fixture
    def store(self, open_again):
        return open_again()


class TestTokens(TokenStoreContract):
    threads = 64

    @pytest.fixture
    def open_again(self, engine, name):
        return lambda: DynamoTokenStore(Table(name, engine))

    @pytest.fixture
    def store(self, open_again):
        return open_again()


@pytest.fixture
def partition():
    return f"test-{uuid.uuid4().hex}"


def test_group_from_many_threads_has_one_winner(engine, name, partition):
    """Its conflicts are those of AWS: transactions that meet are cancelled, repeated, and one gets through."""
    store = DynamoStateStore(Table(name, engine))

    def write(number):
        try:
            store.write(Put(partition, "guard", b"%d" % number, ABSENT), Put(partition, f"{number:02}", b""))
        except ConditionFailed:
            return False
        return True

    won = race(64, write)
    assert won.count(True) == 1
    assert [key for key, _ in store.query(partition)] == [f"{won.index(True):02}", "guard"]


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
