"""The clients of boto3: made when first used, kept by their options, with timeouts that fit these."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import Any

from gramian.errors import TransportRefused
from gramian_s3.calls import AT_ONCE
from gramian_s3.options import S3Options

ATTEMPTS = 3
POLL_S = 20
"""How long one call may wait for a nudge: as long as SQS allows."""
MAX_KEPT = 32


class Clients:
    """Clients by service and options; making one takes 50 ms and more. Thread-safe."""

    def __init__(self) -> None:
        self._session: Any = None
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[object, ...], Any] = OrderedDict()

    def s3(self, options: S3Options) -> Any:
        return self._client("s3", options, options.region, options.timeout_s)

    def sns(self, options: S3Options) -> Any:
        assert options.topic is not None, "nudges need a topic"
        return self._client("sns", options, options.topic.region, options.timeout_s)

    def sqs(self, options: S3Options) -> Any:
        assert options.topic is not None, "nudges need a topic"
        return self._client("sqs", options, options.topic.region, options.timeout_s)

    def polling(self, options: S3Options) -> Any:
        """A client of SQS that has the patience to wait for messages."""
        assert options.topic is not None, "nudges need a topic"
        return self._client("sqs", options, options.topic.region, options.timeout_s, POLL_S)

    def close(self) -> None:
        with self._lock:
            kept, self._kept = list(self._kept.values()), OrderedDict()
        for client in kept:
            client.close()

    def _client(self, service: str, options: S3Options, region: str, timeout_s: float, patience_s: float = 0.0) -> Any:
        # A forked child must not share sockets with its parent.
        key = (os.getpid(), service, region, options.access_key, options.secret_key, timeout_s, patience_s)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = self._made(service, options, region, timeout_s, patience_s)
                if len(self._kept) > MAX_KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]

    def _made(self, service: str, options: S3Options, region: str, timeout_s: float, patience_s: float) -> Any:
        from gramian_s3.errors import translating

        login = (options.access_key, options.secret_key)
        with translating("boto3", options):
            try:
                self._session = self._session or new_session()
                return make(self._session, service, region, login, timeout_s, patience_s)
            except ValueError as error:  # AWS_ENDPOINT_URL, or what a file of AWS holds
                raise TransportRefused(
                    f"boto3 cannot be used as this node's environment configures it: {error}"
                ) from None


def new_session() -> Any:
    """What clients share: the descriptions of the services, and this node's own credentials. Not thread-safe."""
    import boto3

    return boto3.session.Session()


def make(
    session: Any, service: str, region: str, login: tuple[str, str], timeout_s: float, patience_s: float = 0.0
) -> Any:
    """A client with the access key `login`, this node's own credentials if that is empty.

    An attempt may take `timeout_s` for each read, `patience_s` longer for what lets its caller wait on purpose.
    """
    from botocore.config import Config

    config = Config(
        connect_timeout=timeout_s / ATTEMPTS,
        read_timeout=timeout_s + patience_s,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=4 * AT_ONCE,
    )
    own = {} if not login[0] else {"aws_access_key_id": login[0], "aws_secret_access_key": login[1]}
    return session.client(service, region_name=region, config=config, **own)
