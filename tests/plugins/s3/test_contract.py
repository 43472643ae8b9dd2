"""The S3 transport keeps the contract of all transports."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from gramian.testing.transport import TransportContract
from gramian_s3.transport import S3Transport


class TestS3Transport(TransportContract):
    """Against an emulated AWS, in a bucket of its own, as a user with no more than the documented policy."""

    unreachable: ClassVar[dict[str, str]] = {
        "s3_bucket": "no-such-bucket",
        "aws_region": "us-east-1",
        "aws_access_key": "AKIA",
        "aws_secret_key": "secret",
        "aws_req_timeout": "2",
    }

    @pytest.fixture
    def transport(self, transport: S3Transport) -> S3Transport:
        return transport

    @pytest.fixture
    def options(self, options: dict[str, str]) -> dict[str, str]:
        return options

    @pytest.fixture(autouse=True)
    def _nothing_leaves_this_machine(self, aws: Any) -> None:
        """The options that lead nowhere lead to the emulator too."""
