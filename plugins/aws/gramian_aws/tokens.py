"""Token store on DynamoDB, in the state store's table: claims that exactly one caller wins until they expire.

An item: `pk` (`token:` and the SHA-256 of the key, which may be long or secret), `sk` (`-`), `value`, `expires_at`,
`ttl`, and `mark`: drawn for each call that writes, so that a call whose answer was lost knows its own work again.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import Any, Final

from gramian.errors import StoreError
from gramian.ports import TokenStore
from gramian.writes import validate_value
from gramian_aws.dynamodb import expiry
from gramian_aws.dynamodb_table import Attributes, Rejected, Table, number

_MARK_BYTES: Final = 16
_NAMES: Final = {"#value": "value", "#expires": "expires_at"}
# The expiry stands in the condition: a claim is free again the moment it expires, swept away or not.
_IS_FREE: Final = "attribute_not_exists(pk) OR #expires <= :now"
_IS_HELD: Final = "#value = :expect AND #expires > :now"
_SWAP: Final = "SET #value = :value, #expires = :expires, #ttl = :ttl, #mark = :mark"


class DynamoTokenStore(TokenStore):
    """`gramian.ports.TokenStore` in a table with the string keys `pk` and `sk`."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def claim(self, key: str, value: bytes, *, now: float, expires_at: float) -> bytes | None:
        """As the protocol says. Raises ValueError for a value above MAX_VALUE_BYTES, StoreError."""
        validate_value(value)
        mark = secrets.token_hex(_MARK_BYTES)
        item = {**_key(key), "value": {"B": value}, "mark": {"S": mark}, **expiry(expires_at)}
        rejected = self._write(
            "put_item",
            Item=item,
            ConditionExpression=_IS_FREE,
            ExpressionAttributeNames={"#expires": "expires_at"},
            ExpressionAttributeValues={":now": number(now)},
        )
        if rejected is None:
            return None
        holder = _standing(rejected)
        if holder["mark"]["S"] == mark:
            return None
        taken: bytes = holder["value"]["B"]
        return taken

    def replace(self, key: str, value: bytes, *, expect: bytes, now: float, expires_at: float) -> bool:
        """As the protocol says. Raises ValueError for a value above MAX_VALUE_BYTES, StoreError."""
        validate_value(value)
        mark = secrets.token_hex(_MARK_BYTES)
        until = expiry(expires_at)
        rejected = self._write(
            "update_item",
            Key=_key(key),
            UpdateExpression=_SWAP,
            ConditionExpression=_IS_HELD,
            ExpressionAttributeNames={**_NAMES, "#ttl": "ttl", "#mark": "mark"},
            ExpressionAttributeValues={
                ":value": {"B": value},
                ":expires": until["expires_at"],
                ":ttl": until["ttl"],
                ":mark": {"S": mark},
                ":expect": {"B": expect},
                ":now": number(now),
            },
        )
        if rejected is None or (rejected.item or {}).get("mark") == {"S": mark}:
            return True
        return self._surely_not(rejected)

    def release(self, key: str, *, expect: bytes) -> bool:
        rejected = self._write(
            "delete_item",
            Key=_key(key),
            ConditionExpression="#value = :expect",
            ExpressionAttributeNames={"#value": "value"},
            ExpressionAttributeValues={":expect": {"B": expect}},
        )
        # Gone after a lost answer: this call's doing, or that of somebody who gave up the same claim.
        if rejected is None or (rejected.doubtful and not rejected.item):
            return True
        return self._surely_not(rejected)

    def close(self) -> None:
        """Nothing is held open: clients belong to the process."""

    def _write(self, operation: str, **request: Any) -> Rejected | None:
        """None if the condition held, else what stands there, without another call."""
        whole = {"TableName": self._table.name, "ReturnValuesOnConditionCheckFailure": "ALL_OLD", **request}
        try:
            self._table.call(operation, lambda: whole)
        except Rejected as rejected:
            return rejected
        return None

    def _surely_not(self, rejected: Rejected) -> bool:
        if rejected.doubtful:
            raise StoreError(
                f"An answer of table {self._table.name} was lost, and the claim has changed since: whether this call "
                "took effect is not known."
            ) from rejected
        return False


def _key(key: str) -> dict[str, Mapping[str, Any]]:
    return {"pk": {"S": f"token:{hashlib.sha256(key.encode()).hexdigest()}"}, "sk": {"S": "-"}}


def _standing(rejected: Rejected) -> Attributes:
    if rejected.item is None:
        raise StoreError("DynamoDB does not say who holds a claim: a newer version of it is needed.") from rejected
    return rejected.item
