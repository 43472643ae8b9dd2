"""State store on DynamoDB: one table for everything.

One table, because every record is reached in the same two ways, by its full name or as part of one partition in order
of keys, which is what a table's key pair (pk, sk) gives; no access path needs an index. Groups may span kinds of
records (a project and its owner's list), backups and permissions are one thing, and on-demand capacity is shared.
Claims of the token store (`gramian_aws.tokens`) live in the same table under partitions of their own.

An item: `pk` (string, `state:` and the partition), `sk` (string, the key), `value` (binary), `version` (string) and,
of those that expire, `expires_at` (number, unix seconds, part of every condition) and `ttl` (number; DynamoDB sweeps
by it hours later, and nothing relies on that).
"""

from __future__ import annotations

import hashlib
import math
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from gramian.errors import ConditionFailed, StoreError
from gramian.ports import ABSENT, ANY, MAX_PARTITION_BYTES, Check, Delete, Item, Put, StateStore, Write
from gramian.writes import validate
from gramian_aws.dynamodb_table import Attributes, Rejected, Request, Table, number

SWEEP_DELAY_S: Final = 3600
"""How long after its expiry an item may be swept: the clock that sweeps need not be that of the nodes."""

_VERSION_BYTES: Final = 16
_NAMES: Final = {"#version": "version", "#expires": "expires_at"}
_IS_ABSENT: Final = "attribute_not_exists(pk) OR #expires <= :now"
_HAS_VERSION: Final = "#version = :version AND (attribute_not_exists(#expires) OR #expires > :now)"
_PAGE_GROWTH: Final = 4


class DynamoStateStore(StateStore):
    """`gramian.ports.StateStore` in a table with the string keys `pk` and `sk`."""

    def __init__(self, table: Table, *, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives unix seconds."""
        self._table = table
        self._clock = clock

    def get(self, partition: str, key: str) -> Item | None:
        found = self._read(partition, key)
        return None if found is None else _item(found)

    def write(self, *writes: Write) -> None:
        validate(writes)
        if len(writes) == 1:
            self._write_one(writes[0])
        elif writes:
            self._write_group(writes)

    def query(
        self, partition: str, prefix: str = "", *, after: str = "", limit: int | None = None, reverse: bool = False
    ) -> list[tuple[str, Item]]:
        if limit is not None and limit < 0:
            raise ValueError("limit must not be negative")
        if limit == 0 or _is_past(prefix, after, reverse=reverse):
            return []
        request = self._query(partition, prefix, reverse=reverse)
        if after.startswith(prefix) and after:
            request["ExclusiveStartKey"] = _key(partition, after)
        found: list[tuple[str, Item]] = []
        for page in self._pages(request, limit):
            found += [(row["sk"]["S"], _item(row)) for row in page]
            if limit is not None and len(found) >= limit:
                break
        return found[:limit]

    def close(self) -> None:
        """Nothing is held open: clients belong to the process."""

    def _read(self, partition: str, key: str) -> Attributes | None:
        """The item as it stands, unless it has expired."""
        request = {"TableName": self._table.name, "Key": _key(partition, key), "ConsistentRead": True}
        found: Attributes | None = self._table.call("get_item", lambda: request).get("Item")
        if found is None or ("expires_at" in found and float(found["expires_at"]["N"]) <= self._clock()):
            return None
        return found

    def _write_one(self, write: Write) -> None:
        match write:
            case Put():
                self._put(write)
            case Delete(expect=expect) if expect == ANY:
                request = {"TableName": self._table.name, "Key": _key(write.partition, write.key)}
                self._table.call("delete_item", lambda: request)
            case Check():
                item = self.get(write.partition, write.key)
                if write.expect != (ABSENT if item is None else item.version):
                    raise _changed(write)
            case Delete():
                # As a group: its token tells a repeated deletion from that of somebody else.
                self._write_group([write])

    def _put(self, put: Put) -> None:
        tried: set[str] = set()

        def request() -> Request:
            tried.add(version := secrets.token_hex(_VERSION_BYTES))
            return self._put_request(put, version)

        try:
            self._table.call("put_item", request)
        except Rejected as rejected:
            if not rejected.doubtful:
                raise _changed(put) from rejected
            found = self._read(put.partition, put.key)
            if found is None or found["version"]["S"] not in tried:
                raise StoreError(
                    f"An answer of table {self._table.name} was lost, and {put.partition} {put.key} has changed "
                    "since: whether this write took effect is not known. Read it and decide anew."
                ) from rejected

    def _write_group(self, writes: Sequence[Write]) -> None:
        def request() -> Request:
            return {
                "TransactItems": [self._part(write) for write in writes],
                "ClientRequestToken": secrets.token_hex(_VERSION_BYTES),
            }

        try:
            self._table.call("transact_write_items", request)
        except Rejected as rejected:
            # Also after a lost answer: had that attempt taken effect, its token would have said so.
            raise ConditionFailed(
                "One of several items was changed by somebody else: read them and try again."
            ) from rejected

    def _part(self, write: Write) -> dict[str, Request]:
        match write:
            case Put():
                return {"Put": self._put_request(write, secrets.token_hex(_VERSION_BYTES))}
            case Delete():
                return {"Delete": self._keyed_request(write)}
            case Check():
                return {"ConditionCheck": self._keyed_request(write)}

    def _put_request(self, put: Put, version: str) -> Request:
        item = {**_key(put.partition, put.key), "value": {"B": put.value}, "version": {"S": version}}
        if put.expires_at is not None:
            item |= expiry(put.expires_at)
        return {"TableName": self._table.name, "Item": item, **self._condition(put.expect)}

    def _keyed_request(self, write: Delete | Check) -> Request:
        key = _key(write.partition, write.key)
        return {"TableName": self._table.name, "Key": key, **self._condition(write.expect)}

    def _condition(self, expect: str) -> Request:
        """Expired items count as absent here too, swept or not."""
        if expect == ANY:
            return {}
        now = number(self._clock())
        if expect == ABSENT:
            return {
                "ConditionExpression": _IS_ABSENT,
                "ExpressionAttributeNames": {"#expires": "expires_at"},
                "ExpressionAttributeValues": {":now": now},
            }
        return {
            "ConditionExpression": _HAS_VERSION,
            "ExpressionAttributeNames": _NAMES,
            "ExpressionAttributeValues": {":now": now, ":version": {"S": expect}},
        }

    def _query(self, partition: str, prefix: str, *, reverse: bool) -> dict[str, Any]:
        values: dict[str, Mapping[str, Any]] = {":pk": {"S": _hash_key(partition)}, ":now": number(self._clock())}
        condition = "pk = :pk"
        if prefix:
            condition += " AND begins_with(sk, :prefix)"
            values[":prefix"] = {"S": prefix}
        return {
            "TableName": self._table.name,
            "ConsistentRead": True,
            "KeyConditionExpression": condition,
            "FilterExpression": "attribute_not_exists(#expires) OR #expires > :now",
            "ExpressionAttributeNames": {"#expires": "expires_at"},
            "ExpressionAttributeValues": values,
            "ScanIndexForward": not reverse,
        }

    def _pages(self, request: dict[str, Any], limit: int | None) -> Iterator[list[Attributes]]:
        """DynamoDB ends a page at 1 MB, or at `Limit` items before it drops expired ones: those make pages grow."""
        if limit is not None:
            request["Limit"] = limit
        while True:
            answer = self._table.call("query", lambda: request)
            yield answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
            if limit is not None:
                request["Limit"] *= _PAGE_GROWTH


def expiry(expires_at: float) -> dict[str, Mapping[str, Any]]:
    """The attributes of what expires: the moment itself, and when it may be swept."""
    return {"expires_at": number(expires_at), "ttl": {"N": str(math.ceil(expires_at) + SWEEP_DELAY_S)}}


def _key(partition: str, key: str) -> dict[str, Mapping[str, Any]]:
    return {"pk": {"S": _hash_key(partition)}, "sk": {"S": key}}


def _hash_key(partition: str) -> str:
    """With its prefix a partition of the longest kind would be too long: its digest stands for it."""
    plain = f"state:{partition}"
    if len(plain.encode()) <= MAX_PARTITION_BYTES:
        return plain
    return f"state-sha256:{hashlib.sha256(partition.encode()).hexdigest()}"


def _item(attributes: Attributes) -> Item:
    return Item(attributes["value"]["B"], attributes["version"]["S"])


def _is_past(prefix: str, after: str, *, reverse: bool) -> bool:
    """Whether no key with `prefix` lies past `after`: DynamoDB refuses to start outside of what is asked for."""
    if after.startswith(prefix) or not after:
        return False
    below = after.encode() < prefix.encode()
    return below if reverse else not below


def _changed(write: Write) -> ConditionFailed:
    return ConditionFailed(f"{write.partition} {write.key} was changed by somebody else: read it and try again.")
