"""What the contract cannot see: lost answers, throttling, conflicts, what DynamoDB is asked, and its words."""

from __future__ import annotations

import time
import uuid

import pytest

from gramian.errors import ConditionFailed, StoreError
from gramian.ports import ABSENT, MAX_VALUE_BYTES, Check, Delete, Put
from gramian_aws.dynamodb import SWEEP_DELAY_S, DynamoStateStore
from gramian_aws.dynamodb_table import Table

THROTTLED = {"__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException", "message": "Rate exceeded"}


def canceled(*codes):
    """A transaction's negative answer with the reasons of its parts."""
    return {
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "message": f"Transaction cancelled, please refer cancellation reasons for specific reasons {codes}",
        "CancellationReasons": [{"Code": code} for code in codes],
    }


@pytest.fixture
def partition():
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
def store(dynamodb, table_name):
    """Over a good line."""
    return DynamoStateStore(Table(table_name, dynamodb))


@pytest.fixture
def lossy(line, make_client, table_name):
    """Over the line that loses what a test says."""
    return DynamoStateStore(Table(table_name, make_client("dynamodb", line.url), patience_s=3))


@pytest.fixture
def impatient(line, make_client, table_name):
    """Gives up after half a second."""
    return DynamoStateStore(Table(table_name, make_client("dynamodb", line.url), patience_s=0.5))


def value(store, partition, key="key"):
    item = store.get(partition, key)
    return item and item.value


def version(store, partition, key="key"):
    return store.get(partition, key).version


# Lost answers


@pytest.mark.parametrize("losses", [1, 3])
def test_put_whose_answers_are_lost_succeeds(lossy, line, store, partition, losses):
    """The repetition meets the condition that its own first attempt broke, and knows its work."""
    line.lose("PutItem", losses)
    lossy.write(Put(partition, "key", b"mine", ABSENT))
    assert line.count()["PutItem"] == losses + 1
    assert value(store, partition) == b"mine"
    line.lose("PutItem", losses)
    lossy.write(Put(partition, "key", b"again", version(store, partition)))
    assert value(store, partition) == b"again"


def test_put_whose_answer_is_lost_and_that_was_overwritten_is_not_reported_as_failed(lossy, line, store, partition):
    """It took effect: "somebody else wrote first" would have it done twice. Nobody knows, and that is said."""
    line.lose("PutItem", meanwhile=lambda: store.write(Put(partition, "key", b"theirs", version(store, partition))))
    with pytest.raises(StoreError, match="is not known") as raised:
        lossy.write(Put(partition, "key", b"mine", ABSENT))
    assert not isinstance(raised.value, ConditionFailed)
    assert value(store, partition) == b"theirs"


def test_counting_over_lost_answers_counts_each_once(lossy, line, store, partition):
    """Compare-and-swap with every other answer lost."""
    store.write(Put(partition, "key", b"0"))
    for number in range(6):
        if number % 2:
            line.lose("PutItem")
        item = lossy.get(partition, "key")
        lossy.write(Put(partition, "key", b"%d" % (int(item.value) + 1), item.version))
    assert value(store, partition) == b"6"


def test_group_whose_answer_is_lost_succeeds_once(lossy, line, store, partition):
    """The token tells DynamoDB that it has done this already."""
    store.write(Put(partition, "old", b"old"))
    line.lose("TransactWriteItems")
    lossy.write(Put(partition, "new", b"new", ABSENT), Delete(partition, "old", version(store, partition, "old")))
    first, second = (seen.document for seen in line.seen if seen.operation == "TransactWriteItems")
    assert first == second
    assert [key for key, _ in store.query(partition)] == ["new"]


def test_group_whose_answer_is_lost_and_that_was_overwritten_succeeds(lossy, line, store, partition):
    """Also then: the token remembers, whatever happened since."""
    store.write(Put(partition, "old", b"old"))
    line.lose("TransactWriteItems", meanwhile=lambda: store.write(Put(partition, "new", b"theirs")))
    lossy.write(Put(partition, "new", b"new", ABSENT), Delete(partition, "old", version(store, partition, "old")))
    assert [(key, item.value) for key, item in store.query(partition)] == [("new", b"theirs")]


def test_delete_whose_answer_is_lost_succeeds(lossy, line, store, partition):
    """Of a version, although the repetition finds nothing, or somebody's new item; and of whatever is there."""
    store.write(Put(partition, "key", b"old"))
    line.lose("TransactWriteItems", meanwhile=lambda: store.write(Put(partition, "key", b"theirs")))
    lossy.write(Delete(partition, "key", version(store, partition)))
    assert value(store, partition) == b"theirs"
    line.lose("DeleteItem")
    lossy.write(Delete(partition, "key"))
    assert value(store, partition) is None


def test_store_that_never_answers_is_store_error_in_time(impatient, line, partition):
    """Within the patience, saying what was tried on what."""
    line.lose("PutItem", 10_000)
    started = time.monotonic()
    with pytest.raises(StoreError, match=r"did not answer dynamodb:PutItem on table gramian-"):
        impatient.write(Put(partition, "key", b"", ABSENT))
    assert time.monotonic() - started < 5


# Throttling and conflicts


def test_throttled_calls_are_repeated(lossy, line, store, partition):
    """Writes and reads alike."""
    for operation in ("PutItem", "GetItem", "Query", "TransactWriteItems"):
        line.refuse(operation, 400, THROTTLED, times=2)
    lossy.write(Put(partition, "key", b"value", ABSENT))
    lossy.write(Put(partition, "more", b"value", ABSENT), Check(partition, "none", ABSENT))
    assert value(lossy, partition) == b"value"
    assert len(lossy.query(partition)) == 2


def test_condition_that_fails_after_throttling_is_condition_failed(lossy, line, store, partition):
    """A throttled attempt surely did nothing, so there is no doubt."""
    store.write(Put(partition, "key", b"theirs"))
    line.refuse("PutItem", 400, THROTTLED, times=2)
    with pytest.raises(ConditionFailed):
        lossy.write(Put(partition, "key", b"mine", ABSENT))


def test_throttling_without_end_says_so(impatient, line, partition):
    """Which permission, which table, and what to raise."""
    line.refuse("GetItem", 400, THROTTLED, times=10_000)
    with pytest.raises(StoreError, match=r"throttles dynamodb:GetItem on table gramian-.*raise its capacity"):
        impatient.get(partition, "key")


@pytest.mark.parametrize("code", ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"])
def test_group_that_meets_another_is_repeated_with_another_token(lossy, line, store, partition, code):
    """A conflict is not a failed condition; and a token stands for one attempt that is known to have failed."""
    line.refuse("TransactWriteItems", 400, canceled("None", code), times=2)
    lossy.write(Put(partition, "key", b"value", ABSENT), Check(partition, "none", ABSENT))
    tokens = [seen.document["ClientRequestToken"] for seen in line.seen if seen.operation == "TransactWriteItems"]
    assert len(set(tokens)) == 3
    assert value(store, partition) == b"value"


def test_put_that_meets_a_group_is_repeated(lossy, line, store, partition):
    """A single write in the way of somebody's transaction."""
    conflict = {"__type": "com.amazonaws.dynamodb.v20120810#TransactionConflictException", "message": "ongoing"}
    line.refuse("PutItem", 400, conflict, times=2)
    lossy.write(Put(partition, "key", b"value", ABSENT))
    assert value(store, partition) == b"value"


def test_group_with_conflict_and_failed_condition_is_condition_failed(lossy, line, partition):
    """What fails for good counts."""
    line.refuse("TransactWriteItems", 400, canceled("TransactionConflict", "ConditionalCheckFailed"))
    with pytest.raises(ConditionFailed):
        lossy.write(Put(partition, "key", b"", ABSENT), Check(partition, "none", ABSENT))


def test_group_that_conflicts_without_end_says_so(impatient, line, partition):
    """Instead of claiming that somebody changed an item."""
    line.refuse("TransactWriteItems", 400, canceled("TransactionConflict", "None"), times=10_000)
    with pytest.raises(StoreError, match="others write to the same items") as raised:
        impatient.write(Put(partition, "key", b""), Check(partition, "none", ABSENT))
    assert not isinstance(raised.value, ConditionFailed)


# What DynamoDB is asked


def test_reads_are_strongly_consistent_and_never_scan(lossy, line, partition):
    """Every one of them."""
    lossy.write(Put(partition, "key", b""))
    lossy.get(partition, "key")
    lossy.query(partition, "k", after="ka", limit=3, reverse=True)
    lossy.query(partition)
    reads = [seen for seen in line.seen if seen.operation in ("GetItem", "Query")]
    assert [seen.operation for seen in reads] == ["GetItem", "Query", "Query"]
    assert all(seen.document["ConsistentRead"] for seen in reads)
    assert set(line.count()) == {"PutItem", "GetItem", "Query"}


def test_single_writes_are_single_calls(lossy, line, store, partition):
    """A transaction costs twice as much: only groups pay for it, and deletions of a version."""
    lossy.write(Put(partition, "key", b"", ABSENT))
    lossy.write(Put(partition, "key", b"", version(store, partition)))
    lossy.write(Put(partition, "key", b""))
    lossy.write(Delete(partition, "key"))
    assert line.count() == {"PutItem": 3, "DeleteItem": 1}


def test_query_past_many_expired_items_takes_few_calls(lossy, line, store, partition):
    """They may lie there for two days until they are swept: pages grow until live ones are found."""
    past = int(time.time()) - 10
    for start in range(0, 300, 25):
        store.write(*(Put(partition, f"{number:03}", b"", expires_at=past) for number in range(start, start + 25)))
    store.write(Put(partition, "live", b""))
    assert [key for key, _ in lossy.query(partition, limit=1)] == ["live"]
    assert line.count()["Query"] <= 6


def test_item_that_expires_is_swept_an_hour_later(store, dynamodb, table_name, partition):
    """Whoever sweeps has a clock of its own: it must not take what a node still sees."""
    expires_at = int(time.time()) + 60
    store.write(Put(partition, "key", b"", expires_at=expires_at))
    raw = dynamodb.get_item(TableName=table_name, Key={"pk": {"S": f"state:{partition}"}, "sk": {"S": "key"}})["Item"]
    assert raw["expires_at"] == {"N": str(expires_at)}
    assert raw["ttl"] == {"N": str(expires_at + SWEEP_DELAY_S)}
    assert dynamodb.describe_time_to_live(TableName=table_name)["TimeToLiveDescription"]["AttributeName"] == "ttl"


def test_fraction_of_a_second_counts_for_expiry(dynamodb, table_name, partition):
    """Conditions compare the clock as it is, not its whole seconds."""
    now = 1_900_000_000
    early = DynamoStateStore(Table(table_name, dynamodb), clock=lambda: now - 0.001)
    late = DynamoStateStore(Table(table_name, dynamodb), clock=lambda: now + 0.001)
    early.write(Put(partition, "key", b"", expires_at=now))
    with pytest.raises(ConditionFailed):
        early.write(Put(partition, "key", b"", ABSENT))
    late.write(Put(partition, "key", b"late", ABSENT))


def test_values_of_the_largest_size_fit_with_longest_names(store, partition):
    """An item of DynamoDB holds 400 KB with everything."""
    place, key = partition.ljust(2048, "p"), "k" * 1024
    store.write(Put(place, key, bytes(MAX_VALUE_BYTES), expires_at=int(time.time()) + 60))
    assert value(store, place, key) == bytes(MAX_VALUE_BYTES)


# What is wrong, in words


def test_missing_table_is_named(make_client, emulator):
    """With what to do."""
    absent = DynamoStateStore(Table("absent", make_client("dynamodb", emulator.url)))
    with pytest.raises(StoreError, match="no table absent in this account and region: create it, or correct its name"):
        absent.get("p", "k")


def test_unreachable_server_is_store_error(make_client, table_name):
    """Nothing listens there; the cause is chained."""
    store = DynamoStateStore(Table(table_name, make_client("dynamodb", "http://127.0.0.1:9"), patience_s=0.1))
    with pytest.raises(StoreError, match=f"AWS cannot be reached for table {table_name}") as raised:
        store.get("p", "k")
    assert raised.value.__cause__ is not None


def test_missing_permission_names_action_and_table(limited_client, table_name, partition):
    """So that whoever writes policies need not guess."""
    reader = DynamoStateStore(Table(table_name, limited_client("dynamodb", ["dynamodb:GetItem"])))
    assert reader.get(partition, "key") is None
    with pytest.raises(StoreError, match=f"do dynamodb:PutItem on table {table_name}: allow that in the policy"):
        reader.write(Put(partition, "key", b""))
    with pytest.raises(StoreError, match="do dynamodb:Query on table"):
        reader.query(partition)


def test_six_permissions_are_enough(limited_client, table_name, partition):
    """Those that the bundle grants: no scan, no change of the table."""
    actions = ["GetItem", "PutItem", "DeleteItem", "UpdateItem", "Query", "ConditionCheckItem"]
    store = DynamoStateStore(Table(table_name, limited_client("dynamodb", [f"dynamodb:{each}" for each in actions])))
    store.write(Put(partition, "a", b"", ABSENT))
    store.write(Put(partition, "b", b""), Check(partition, "a", version(store, partition, "a")))
    store.write(Delete(partition, "b", version(store, partition, "b")))
    store.write(Delete(partition, "b"))
    assert [key for key, _ in store.query(partition)] == ["a"]
