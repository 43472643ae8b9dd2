"""The stores keep their contracts on the emulator, where threads and processes really race."""

from __future__ import annotations

import time
import uuid

import pytest

from gramian.settings import Settings
from gramian.testing.blobs import BlobStoreContract
from gramian.testing.live import LiveStore
from gramian.testing.processes import BlobStoreAcrossProcesses, StateStoreAcrossProcesses, TokenStoreAcrossProcesses
from gramian.testing.state import StateStoreContract
from gramian.testing.tokens import TokenStoreContract
from gramian_aws.dynamodb import DynamoStateStore
from gramian_aws.dynamodb_table import Table
from gramian_aws.s3 import S3BlobStore
from gramian_aws.s3_bucket import Bucket
from gramian_aws.tokens import DynamoTokenStore


class TestState(StateStoreContract):
    @pytest.fixture
    def open_again(self, clock, dynamodb, table_name):
        return lambda: DynamoStateStore(Table(table_name, dynamodb), clock=clock)

    @pytest.fixture
    def store(self, open_again):
        return open_again()


class TestTokens(TokenStoreContract):
    threads = 64

    @pytest.fixture
    def open_again(self, dynamodb, table_name):
        return lambda: DynamoTokenStore(Table(table_name, dynamodb))

    @pytest.fixture
    def store(self, open_again):
        return open_again()


class TestBlobs(BlobStoreContract):
    @pytest.fixture
    def open_again(self, s3, bucket):
        return lambda: S3BlobStore(Bucket(bucket, client=s3), prefix="node/")

    @pytest.fixture
    def store(self, open_again):
        return open_again()


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
