"""Calls of one DynamoDB table, repeated where that is safe.

Nothing below this module repeats a call. So it knows of each attempt whether it failed for sure, or was perhaps
carried out and only its answer lost: after that, a condition that does not hold may be the work of the call itself.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from gramian.errors import StoreError
from gramian_aws import clients
from gramian_aws.errors import CONDITION_FAILED, code_of, explain

Request = Mapping[str, Any]
Attributes = Mapping[str, Mapping[str, Any]]
"""An item as DynamoDB writes it: `{"version": {"S": "..."}}`."""

PATIENCE_S: Final = 10.0
"""How long a call is repeated."""
_FIRST_WAIT_S: Final = 0.02
_LONGEST_WAIT_S: Final = 1.0


class Rejected(Exception):
    """A write's condition does not hold. `item`: what stands there, if the request asked for it.
    `doubtful`: an earlier attempt of this very write may have taken effect."""

    def __init__(self, item: Attributes | None, *, doubtful: bool) -> None:
        super().__init__("condition failed")
        self.item = item
        self.doubtful = doubtful


class Table:
    """A table by name. Shared by threads; the client is made by the first call."""

    def __init__(self, name: str, client: Any = None, *, patience_s: float = PATIENCE_S) -> None:
        """`client`: of another account or endpoint; by default the process's own."""
        self.name = name
        self._client = client
        self._patience_s = patience_s

    def call(self, operation: str, make_request: Callable[[], Request]) -> dict[str, Any]:
        """Call until it succeeds, fails for good, or PATIENCE_S are over.

        operation: its name in Python, such as `put_item`.
        make_request: called again for an attempt after one that surely did nothing; once an answer was lost, the
            very same request is repeated, so that its ClientRequestToken is known to AWS.
        Raises Rejected if a condition does not hold, StoreError.
        """
        deadline = time.monotonic() + self._patience_s
        doubtful, request = False, make_request()
        for attempt in itertools.count():
            try:
                answer: dict[str, Any] = self._send(operation, request)
            except _aws_errors() as error:
                if code_of(error) in CONDITION_FAILED:
                    raise Rejected(getattr(error, "response", {}).get("Item"), doubtful=doubtful) from error
                fault = explain(error, _permission(operation), f"table {self.name}")
                doubtful = doubtful or fault.doubtful
                wait_s = _wait_s(attempt)
                if not fault.transient or time.monotonic() + wait_s > deadline:
                    raise StoreError(fault.text) from error
            else:
                return answer
            time.sleep(wait_s)
            request = request if doubtful else make_request()
        raise AssertionError

    def _send(self, operation: str, request: Request) -> Any:
        client = self._client or clients.client("dynamodb")
        return getattr(client, operation)(**request)


def number(value: float) -> dict[str, str]:
    """A number attribute that compares as the float does: the shortest decimal that gives it back keeps the order."""
    return {"N": repr(value)}


def _wait_s(attempt: int) -> float:
    """Anything up to a bound that doubles: writers that met once must not meet again."""
    return random.uniform(0, min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**attempt))  # noqa: S311 (no secret)


def _permission(operation: str) -> str:
    if operation == "transact_write_items":
        return "dynamodb:PutItem, DeleteItem and ConditionCheckItem"
    return "dynamodb:" + "".join(word.title() for word in operation.split("_"))


def _aws_errors() -> tuple[type[Exception], ...]:
    from botocore.exceptions import BotoCoreError, ClientError

    return (ClientError, BotoCoreError)
