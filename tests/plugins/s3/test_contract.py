"""The S3 transport keeps the contract of all transports."""

from __future__ import annotations

import pytest

from gramian.testing.transport import TransportContract
from gramian_s3.transport import S3Transport


class TestS3Transport(TransportContract):
    """Against an emulated AWS, in a bucket of its own."""

    @pytest.fixture
    def transport(self, transport: S3Transport) -> S3Transport:
        return transport

    @pytest.fixture
    def options(self, options: dict[str, str]) -> dict[str, str]:
        return options
