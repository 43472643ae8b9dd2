"""The S3 transport keeps the contract of all transports."""

from __future__ import annotations

from typing import Any

import pytest

from gramian.testing import contract
from gramian_s3.transport import S3Transport

NOWHERE = {
    "s3_bucket": "no-such-bucket",
    "aws_region": "us-east-1",
    "aws_access_key": "AKIA",
    "aws_secret_key": "secret",
    "aws_req_timeout": "2",
}


class TestS3Transport(contract("transport.s3", unreachable=NOWHERE, patience_s=8.0)):
    """Against an emulated AWS, in a bucket of its own, as a user with no more than the documented policy."""

    @pytest.fixture
    def transport(self, transport: S3Transport) -> S3Transport:
        return transport

    @pytest.fixture
    def options(self, options: dict[str, str]) -> dict[str, str]:
        return options

    @pytest.fixture
    def own_keys(self, options: dict[str, str]) -> dict[str, str]:
        """A member's own credentials: no invitation carries any."""
        return {key: options[key] for key in ("aws_access_key", "aws_secret_key")}

    @pytest.fixture(autouse=True)
    def _aws_is_the_emulator(self, aws: Any) -> None:
        """Also for processes that a test starts, and for tests without options."""
