"""The stores keep their contracts, against the emulator, where threads really race, and against moto."""

from __future__ import annotations

import pytest

from gramian.testing.blobs import BlobStoreContract
from gramian.testing.state import StateStoreContract
from gramian.testing.tokens import TokenStoreContract
from gramian_aws.dynamodb import DynamoStateStore
from gramian_aws.dynamodb_table import Table
from gramian_aws.s3 import S3BlobStore
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
        return lambda: S3BlobStore(bucket, prefix="node/", client=s3)

    @pytest.fixture
    def store(self, open_again):
        return open_again()
