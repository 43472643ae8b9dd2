"""The streams hold what the protocol promises, against members and strangers with the right credentials."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from typing import Any

import nats
import pytest

from gramian.errors import ContentMissing, TransportFull, TransportRefused, TransportUnavailable
from gramian_local.nats_server import NatsServer
from gramian_nats import entries
from gramian_nats.entries import MAX_HEAD_BYTES
from gramian_nats.streams import MAX_ENTRY_BYTES, blob_config, head_config
from gramian_nats.transport import NatsLink, NatsTransport

StartServer = Callable[..., NatsServer]
RawRequest = Callable[..., dict[str, Any]]

PEER = "ab" * 16
MIB = 2**20


@pytest.fixture
def link(transport: NatsTransport, nats_server: NatsServer, fed_id: str) -> Any:
    link = transport.open({"nats_hosts": nats_server.url, "nats_req_timeout": "10"})
    link.create(fed_id, max_blob_bytes=16 * MIB)
    yield link
    link.destroy(fed_id)


def test_rollup_by_a_member_is_refused(
    link: NatsLink, nats_server: NatsServer, raw_request: RawRequest, fed_id: str
) -> None:
    """One message with a rollup header would otherwise wipe every head."""
    link.put_head(fed_id, PEER, b"head", expect=None)
    for scope in ("all", "sub"):
        answer = raw_request(nats_server.url, f"grm.{fed_id}.h.cd", b"x", {"Nats-Rollup": scope})
        assert answer["error"]["description"] == "rollup not permitted"
    assert link.cut(fed_id, [PEER]).heads[PEER].data == b"head"


@pytest.mark.parametrize("letter", ["H", "B"])
def test_purge_and_delete_by_a_member_are_refused(
    link: NatsLink, nats_server: NatsServer, raw_request: RawRequest, fed_id: str, letter: str
) -> None:
    """Messages go only by being replaced."""
    link.put_head(fed_id, PEER, b"head", expect=None)
    link.put_blob(fed_id, PEER, "01", [b"chunk"])
    stream = f"GRM_{fed_id}_{letter}"
    assert "error" in raw_request(nats_server.url, f"$JS.API.STREAM.PURGE.{stream}", b"")
    assert "error" in raw_request(nats_server.url, f"$JS.API.STREAM.MSG.DELETE.{stream}", b'{"seq": 1}')
    assert link.cut(fed_id, [PEER]).heads[PEER].data == b"head"
    assert link.missing_chunks(fed_id, PEER, "01", 1) == []


def test_head_with_a_time_to_live_is_refused(
    nats_server: NatsServer, link: NatsLink, raw_request: RawRequest, fed_id: str
) -> None:
    """A head must not vanish by itself."""
    answer = raw_request(nats_server.url, f"grm.{fed_id}.h.{PEER}", b"x", {"Nats-TTL": "1s"})
    assert "error" in answer


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"allow_rollup_hdrs": True, "deny_purge": False}, "allow_rollup_hdrs, deny_purge"),
        ({"storage": "memory"}, "storage"),
        ({"max_age": 3_600_000_000_000}, "max_age"),
        ({"discard": "old"}, "discard"),
        ({"max_msgs_per_subject": 5}, "max_msgs_per_subject"),
        ({"deny_delete": False}, "deny_delete"),
        ({"allow_direct": False}, "allow_direct"),
        ({"subjects": None, "mirror": {"name": "elsewhere"}, "max_msgs_per_subject": 0}, "mirror"),
        ({"sources": [{"name": "elsewhere"}]}, "sources"),
        ({"republish": {"src": ">", "dest": "spy.>"}}, "republish"),
    ],
)
def test_create_over_a_stream_with_other_rules_is_refused(
    transport: NatsTransport,
    nats_server: NatsServer,
    raw_request: RawRequest,
    fed_id: str,
    change: dict[str, Any],
    named: str,
) -> None:
    """Whoever made the stream first must not have left a door open; the text names what differs."""
    config = {**head_config(fed_id), **change}
    link = transport.open({"nats_hosts": nats_server.url})
    other = secrets.token_hex(16)  # the server makes no stream just while it cleans up after its last one
    link.create(other, max_blob_bytes=MIB)
    made = raw_request(nats_server.url, f"$JS.API.STREAM.CREATE.{config['name']}", json.dumps(config).encode())
    assert "error" not in made, made
    with pytest.raises(TransportRefused, match=f"cannot be trusted.*{named}"):
        link.create(fed_id, max_blob_bytes=MIB)
    link.destroy(fed_id)
    link.destroy(other)


def test_create_over_blobs_of_another_size_is_fine(
    link: NatsLink, nats_server: NatsServer, raw_request: RawRequest, fed_id: str
) -> None:
    """The limit may have been another when somebody recreated the stream."""
    link.create(fed_id, max_blob_bytes=8 * MIB)
    info = raw_request(nats_server.url, f"$JS.API.STREAM.INFO.GRM_{fed_id}_B", b"")
    assert info["config"]["max_bytes"] == 16 * MIB


def test_create_on_subjects_of_a_foreign_stream_is_refused(
    transport: NatsTransport, start_server: StartServer, raw_request: RawRequest, fed_id: str
) -> None:
    """A stream that catches everything stands in the way, and the text says so."""
    server = start_server()
    config = {"name": "EVERYTHING", "subjects": ["grm.>"], "storage": "memory"}
    raw_request(server.url, "$JS.API.STREAM.CREATE.EVERYTHING", json.dumps(config).encode())
    link = transport.open({"nats_hosts": server.url})
    with pytest.raises(TransportRefused, match="another stream on this federation's subjects"):
        link.create(fed_id, max_blob_bytes=MIB)


def test_create_beyond_the_memory_of_the_server_is_refused(
    transport: NatsTransport, start_server: StartServer, fed_id: str
) -> None:
    """The text has the server's words and the option to lower."""
    server = start_server(max_memory_bytes=64 * MIB)
    link = transport.open({"nats_hosts": server.url})
    with pytest.raises(TransportRefused, match=r"insufficient memory.*lower nats_stream_max_memory"):
        link.create(fed_id, max_blob_bytes=65 * MIB)
    link.create(fed_id, max_blob_bytes=60 * MIB)


def test_full_stream_refuses_then_freeing_makes_room(link: NatsLink, fed_id: str) -> None:
    """A blob that finds no room is refused, others stay whole, and freeing works although all is full."""
    chunks = [secrets.token_bytes(link.chunk_bytes)] * 4
    for index in range(4):  # 14 of 16 MiB
        link.put_blob(fed_id, PEER, f"{index:x}", chunks)
    with pytest.raises(TransportFull, match="nats_stream_max_memory"):
        link.put_blob(fed_id, PEER, "4", chunks)
    assert link.get_blob(fed_id, PEER, "0", 4, max_bytes=16 * MIB) == chunks
    link.free_blob(fed_id, PEER, "4", 4)
    link.free_blob(fed_id, PEER, "0", 4)
    link.put_blob(fed_id, PEER, "ff", chunks)
    assert link.get_blob(fed_id, PEER, "ff", 4, max_bytes=16 * MIB) == chunks


def test_freed_blobs_leave_nothing_behind(
    link: NatsLink, nats_server: NatsServer, raw_request: RawRequest, fed_id: str
) -> None:
    """The markers of freed chunks go by themselves, so that the stream does not silt up."""
    for blob_id in ("01", "02"):
        link.put_blob(fed_id, PEER, blob_id, [b"x" * 1000] * 50)
        link.free_blob(fed_id, PEER, blob_id, 50)
    deadline = time.monotonic() + 5
    while raw_request(nats_server.url, f"$JS.API.STREAM.INFO.GRM_{fed_id}_B", b"")["state"]["bytes"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_junk_of_strangers_disturbs_no_blob(
    link: NatsLink, nats_server: NatsServer, raw_request: RawRequest, fed_id: str
) -> None:
    """Foreign messages beside a blob's chunks, and heads of unknown peers, are not seen."""
    chunks = [b"one", b"two"]
    link.put_blob(fed_id, PEER, "01", chunks)
    for token in ("2", "00", "junk", "-1"):
        raw_request(nats_server.url, f"grm.{fed_id}.b.{PEER}.01.{token}", b"junk" * 100)
    raw_request(nats_server.url, f"grm.{fed_id}.h.stranger", b"junk")
    assert link.get_blob(fed_id, PEER, "01", 2, max_bytes=6) == chunks
    assert link.missing_chunks(fed_id, PEER, "01", 2) == []
    assert link.missing_chunks(fed_id, PEER, "01", 4) == [3]
    assert link.cut(fed_id, [PEER]).heads == {}
    link.free_blob(fed_id, PEER, "01", 2)
    with pytest.raises(ContentMissing):
        link.get_blob(fed_id, PEER, "01", 2, max_bytes=100)


@pytest.mark.parametrize("status", ["204", "404", "503"])
def test_head_that_poses_as_a_status_hides_no_other(
    link: NatsLink, nats_server: NatsServer, raw_request: RawRequest, fed_id: str, status: str
) -> None:
    """Headers that a stranger stores come back beside the server's own, and must not end the reading."""
    posed = {"Status": status, "Nats-Subject": f"grm.{fed_id}.h.cd", "Nats-Sequence": "7", "Nats-Num-Pending": "0"}
    raw_request(nats_server.url, f"grm.{fed_id}.h.ef", b"posing", posed)
    link.put_head(fed_id, PEER, b"head", expect=None)
    heads = link.cut(fed_id, ["ef", "cd", PEER]).heads
    assert {peer_id: entry.data for peer_id, entry in heads.items()} == {"ef": b"posing", PEER: b"head"}
    assert heads["ef"].revision == "1"


@pytest.mark.parametrize("block", [b"NATS/1.0", b"NATS/1.0\r\nA: b", b"NATS/1.0 \xff\xff\xff", b"junk", b"\xff" * 12])
def test_message_with_malformed_headers_hides_no_other(
    link: NatsLink, nats_server: NatsServer, raw_store: Callable[..., None], fed_id: str, block: bytes
) -> None:
    """The server appends its own to whatever a stranger stored; owners see what to replace, heads and chunks alike."""
    for subject in (f"h.{PEER}", f"b.{PEER}.01.1"):
        raw_store(nats_server.port, f"grm.{fed_id}.{subject}", block, b"junk")
    link.put_head(fed_id, "cd", b"head", expect=None)
    heads = link.cut(fed_id, [PEER, "cd"]).heads
    assert {peer_id: entry.data for peer_id, entry in heads.items()} == {PEER: b"junk", "cd": b"head"}
    link.put_head(fed_id, PEER, b"restored", expect=heads[PEER].revision)
    mark = link.put_blob(fed_id, PEER, "01", [b"chunk", b"chunk"])
    raw_store(nats_server.port, f"grm.{fed_id}.b.{PEER}.01.0", block, b"junk")
    assert link.get_blob(fed_id, PEER, "01", 2, max_bytes=100) == [b"junk", b"chunk"]
    assert link.missing_chunks(fed_id, PEER, "01", 2, since=mark) == [0, 1]


def test_head_of_a_stranger_is_bounded(
    link: NatsLink, nats_server: NatsServer, raw_request: RawRequest, fed_id: str
) -> None:
    """The largest roster finds room, and nothing much larger; of a long head only so much is kept as shows it."""
    link.put_roster(fed_id, bytes(350_000), expect=None)
    answer = raw_request(nats_server.url, f"grm.{fed_id}.h.{PEER}", bytes(401_000))
    assert answer["error"]["err_code"] == 10054
    raw_request(nats_server.url, f"grm.{fed_id}.h.{PEER}", bytes(399_000))
    cut = link.cut(fed_id, [PEER])
    assert len(cut.roster.data) == 350_000
    assert MAX_HEAD_BYTES < len(cut.heads[PEER].data) < 2 * MAX_HEAD_BYTES
    link.put_head(fed_id, PEER, bytes(MAX_HEAD_BYTES), expect=cut.heads[PEER].revision)
    assert link.cut(fed_id, [PEER]).heads[PEER].data == bytes(MAX_HEAD_BYTES)
    with pytest.raises(ValueError, match="at most"):
        link.put_head(fed_id, PEER, bytes(MAX_HEAD_BYTES + 1), expect=None)


@pytest.mark.parametrize("largest_bytes", [MAX_ENTRY_BYTES, MIB])
def test_cut_of_many_large_heads_is_read_in_groups(
    transport: NatsTransport, nats_server: NatsServer, raw_request: RawRequest, fed_id: str, largest_bytes: int
) -> None:
    """Also from a stream that an earlier version made, which takes larger ones: everybody's is found."""
    config = {**head_config(fed_id), "max_msg_size": largest_bytes}
    made = raw_request(nats_server.url, f"$JS.API.STREAM.CREATE.{config['name']}", json.dumps(config).encode())
    assert "error" not in made, made
    link = transport.open({"nats_hosts": nats_server.url, "nats_req_timeout": "10"})
    link.create(fed_id, max_blob_bytes=MIB)
    peers = [f"{number:032x}" for number in range(70)]
    link.put_head(fed_id, peers[0], b"first", expect=None)
    asyncio.run(publish(nats_server.url, [f"grm.{fed_id}.h.{peer}" for peer in peers[1:-1]], largest_bytes - 2_000))
    link.put_head(fed_id, peers[-1], b"last", expect=None)
    link.put_roster(fed_id, b"roster", expect=None)
    cut = link.cut(fed_id, peers)
    assert list(cut.heads) == peers
    assert (cut.roster.data, cut.heads[peers[0]].data, cut.heads[peers[-1]].data) == (b"roster", b"first", b"last")
    assert {len(cut.heads[peer].data) for peer in peers[1:-1]} == {MAX_HEAD_BYTES + 1}
    link.destroy(fed_id)


def test_cut_in_groups_is_read_again_if_the_roster_changed_meanwhile(
    link: NatsLink, nats_server: NatsServer, fed_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heads and the roster that they are judged by stood there together; for ever it is not tried."""
    peers = [f"{number:032x}" for number in range(30)]
    asyncio.run(publish(nats_server.url, [f"grm.{fed_id}.h.{peer}" for peer in peers], 390_000))
    revision = link.put_roster(fed_id, b"0", expect=None)
    read, changes = entries.last_messages, 1

    async def read_and_change(connection: Any, stream: str, subjects: Any, **keys: Any) -> Any:
        nonlocal changes, revision
        batch = await read(connection, stream, subjects, **keys)
        subject = f"grm.{fed_id}.r"
        if changes and len(subjects) > 1 and subject in {message.subject for message in batch.messages}:
            changes -= 1
            revision = await entries.write_entry(connection, fed_id, subject, b"%d" % changes, revision)
        return batch

    monkeypatch.setattr(entries, "last_messages", read_and_change)
    assert link.cut(fed_id, peers).roster.revision == revision
    changes = 100
    with pytest.raises(TransportUnavailable, match="changes too quickly"):
        link.cut(fed_id, peers)


async def publish(url: str, subjects: list[str], size: int) -> None:
    client = await nats.connect(url, allow_reconnect=False)
    for subject in subjects:
        await client.request(subject, bytes(size), timeout=10)
    await client.close()


def test_room_of_a_peer_is_freed_whatever_its_head_shows(
    link: NatsLink, nats_server: NatsServer, raw_request: RawRequest, fed_id: str
) -> None:
    """All of its blobs and what is beside them, in a full stream too, and nobody else's."""
    theirs = [secrets.token_bytes(link.chunk_bytes)] * 2
    link.put_blob(fed_id, "cd" * 16, "01", theirs)
    for number in range(7):
        link.put_blob(fed_id, PEER, f"{number:x}", theirs)
    raw_request(nats_server.url, f"grm.{fed_id}.b.{PEER}.no.id", b"junk")
    with pytest.raises(TransportFull):
        link.put_blob(fed_id, "cd" * 16, "02", theirs * 2)
    link.free_peer(fed_id, PEER)
    link.free_peer(fed_id, PEER)
    link.put_blob(fed_id, "cd" * 16, "02", theirs * 2)
    assert link.get_blob(fed_id, "cd" * 16, "01", 2, max_bytes=MIB * 2) == theirs
    about = json.dumps({"subjects_filter": f"grm.{fed_id}.b.{PEER}.>"}).encode()
    deadline = time.monotonic() + 5
    while raw_request(nats_server.url, f"$JS.API.STREAM.INFO.GRM_{fed_id}_B", about)["state"].get("subjects"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    link.destroy(fed_id)
    link.free_peer(fed_id, PEER)


def test_chunk_that_cannot_be_named_does_not_keep_a_peers_room_from_being_freed(
    link: NatsLink, nats_server: NatsServer, raw_store: Callable[..., None], fed_id: str
) -> None:
    """The server tells its subject wrongly: what would be written there finds no room in a full stream."""
    raw_store(nats_server.port, f"grm.{fed_id}.b.{PEER}.01.\xff", b"NATS/1.0\r\n\r\n", b"junk")
    for size in (link.chunk_bytes, 1000, 1):
        with pytest.raises(TransportFull):
            link.put_blob(fed_id, "cd" * 16, f"{size:x}", [bytes(size)] * 1000)
    link.free_peer(fed_id, PEER)


def test_blob_overwritten_with_more_is_bounded(
    link: NatsLink, nats_server: NatsServer, raw_request: RawRequest, fed_id: str
) -> None:
    """A stranger who inflates chunks gets the reader to stop at its limit, not to fill its memory."""
    for index in range(12):
        raw_request(nats_server.url, f"grm.{fed_id}.b.{PEER}.01.{index}", bytes(MIB - 2_000))
    before = link.traffic().received_bytes
    with pytest.raises(Exception, match="larger than the 1000 bytes allowed"):
        link.get_blob(fed_id, PEER, "01", 12, max_bytes=1_000)
    assert link.traffic().received_bytes - before < 2 * MIB


def test_chunks_fit_a_server_with_a_small_payload(
    transport: NatsTransport, start_server: StartServer, fed_id: str
) -> None:
    """The chunk size follows what the server takes, headers included."""
    server = start_server(config="max_payload: 65536")
    link = transport.open({"nats_hosts": server.url})
    assert link.chunk_bytes == 65_536 - 4_096
    link.create(fed_id, max_blob_bytes=MIB)
    chunks = [secrets.token_bytes(link.chunk_bytes)] * 3
    link.put_blob(fed_id, PEER, "01", chunks)
    assert link.get_blob(fed_id, PEER, "01", 3, max_bytes=MIB) == chunks
    with pytest.raises(TransportRefused, match="max_payload"):
        link.put_roster(fed_id, bytes(70_000), expect=None)


def test_configurations_are_those_of_the_protocol() -> None:
    """The two streams, word for word where nodes must agree."""
    head, blob = head_config("ab"), blob_config("ab", 1000)
    assert (head["name"], head["subjects"], head["storage"]) == ("GRM_ab_H", ["grm.ab.r", "grm.ab.h.*"], "file")
    assert (blob["name"], blob["subjects"], blob["storage"]) == ("GRM_ab_B", ["grm.ab.b.*.*.*"], "memory")
    assert (head["max_msg_size"], blob["max_msg_size"]) == (400_000, 2**20)
    assert (blob["max_bytes"], blob["allow_msg_ttl"], head["allow_msg_ttl"]) == (1000, True, False)
    for config in (head, blob):
        assert config["max_msgs_per_subject"] == 1
        assert config["discard"] == "new"
        assert config["allow_direct"]
        assert config["deny_delete"]
        assert config["deny_purge"]
        assert not config["allow_rollup_hdrs"]
