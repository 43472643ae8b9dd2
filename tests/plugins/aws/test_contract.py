"""The stores keep their contracts on engines where threads and processes really race."""

from __future__ import annotations

import time
import uuid

import pytest

from gramian.errors import ConditionFailed
from gramian.ports import ABSENT, Put
from gramian.settings import Settings
from gramian.testing.blobs import BlobStoreContract
from gramian.testing.live import LiveStore
from gramian.testing.processes import BlobStoreAcrossProcesses, StateStoreAcrossProcesses, TokenStoreAcrossProcesses
from gramian.testing.state import StateStoreContract, race
from gramian.testing.tokens import TokenStoreContract
from gramian_aws.dynamodb import DynamoStateStore
from gramian_aws.dynamodb_table import Table
from gramian_aws.s3 import S3BlobStore
from gramian_aws.s3_bucket import Bucket
from gramian_aws.tokens import DynamoTokenStore


class TestState(StateStoreContract):
    patience_s = 20

    @pytest.fixture
    def open_again(self, clock, table):
        return lambda: DynamoStateStore(table, clock=clock)

    @pytest.fixture
    def store(self, open_again):
        return open_again()

    @pytest.fixture
    def unreachable(self, silent, make_client):
        return lambda: DynamoStateStore(Table("table", make_client("dynamodb", silent), patience_s=1))


class TestTokens(TokenStoreContract):
    threads = 64
    patience_s = 20

    @pytest.fixture
    def open_again(self, table):
        return lambda: DynamoTokenStore(table)

    @pytest.fixture
    def store(self, open_again):
        return open_again()

    @pytest.fixture
    def unreachable(self, silent, make_client):
        return lambda: DynamoTokenStore(Table("table", make_client("dynamodb", silent), patience_s=1))


class TestBlobs(BlobStoreContract):
    patience_s = 20

    @pytest.fixture
    def open_again(self, s3, bucket):
        return lambda: S3BlobStore(Bucket(bucket, client=s3), prefix="node/")

    @pytest.fixture
    def store(self, open_again):
        return open_again()

    @pytest.fixture
    def unreachable(self, silent, make_client):
        return lambda: S3BlobStore(Bucket("bucket", client=make_client("s3", silent)), prefix="node/")


def test_group_from_many_threads_has_one_winner(table):
    """Sixty-four transactions on one guard meet, are cancelled and repeated; one gets through, the others are told."""
    store, partition = DynamoStateStore(table), f"test-{uuid.uuid4().hex}"

    def write(number):
        try:
            store.write(Put(partition, "guard", b"%d" % number, ABSENT), Put(partition, f"{number:02}", b""))
        except ConditionFailed:
            return False
        return True

    won = race(64, write)
    assert won.count(True) == 1
    assert [key for key, _ in store.query(partition)] == [f"{won.index(True):02}", "guard"]


@pytest.mark.slow
class OnEmulator(LiveStore):
    """Opens the installed plugin, here and in other processes."""

    environment = {}  # noqa: RUF012 (as in the class above)

    @pytest.fixture
    def settings(self, emulator, table_name, bucket, monkeypatch):
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        return Settings.from_env({"GRAMIAN_DYNAMODB_TABLE": table_name, "GRAMIAN_S3_BUCKET": bucket})

    @pytest.fixture
    def name(self):
        return str(uuid.uuid4())


class TestStateAcrossProcesses(OnEmulator, StateStoreAcrossProcesses):
    plugin = "state.dynamodb"

    @pytest.fixture
    def partition(self, name):
        return name


class TestTokensAcrossProcesses(OnEmulator, TokenStoreAcrossProcesses):
    plugin = "tokens.dynamodb"

    @pytest.fixture
    def key(self, name):
        return name

    @pytest.fixture
    def now(self):
        return time.time()


class TestBlobsAcrossProcesses(OnEmulator, BlobStoreAcrossProcesses):
    plugin = "blobs.s3"

    @pytest.fixture
    def space(self, name):
        return name
