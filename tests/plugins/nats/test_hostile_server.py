"""A server that lies, streams full of junk, a process that freezes: nobody's statistics change."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nats
import psutil
import pytest

import gramian_nats.blobs
import gramian_nats.entries
from gramian.client import BadRequest
from gramian.errors import ContentMissing
from gramian_nats.blobs import free_chunks
from gramian_nats.transport import NatsTransport

StartServer = Callable[..., Any]
PEER = "b2" * 16


def federated(sites: list[Any], pid: str = "study") -> list[tuple[str, str]]:
    return [(each.params(pid)["fed_inputs"], each.params(pid)["fed_digest"]) for each in sites]


def mapped(*pairs: tuple[str, str]) -> str:
    lines = ", ".join(f'"{asked}": "{answered}"' for asked, answered in pairs)
    return f"accounts {{ A {{ jetstream: enabled, users: [{{ user: u, password: p }}], mappings: {{ {lines} }} }} }}"


def test_server_that_answers_with_another_federations_streams_is_not_believed(
    site: Callable[[str], Any], start_server: StartServer, assert_converged: Callable[..., None], tmp_path: Path
) -> None:
    """The requests for one federation's stream are mapped to another's, for reading and in both directions."""
    (tmp_path / "accounts.conf").write_text(mapped(("unused", "unused.too")))
    server = start_server(config='no_auth_user: u\ninclude "../accounts.conf"')
    sites = [site(name) for name in ("one", "two")]
    for pid, count in (("study", 20), ("other", 30)):
        sites[0].create(pid, nats_hosts=server.url)
        sites[1].client.join(pid, sites[0].invite(pid))
        for each in sites:
            each.learn(count, pid)
        for each in sites * 2:
            each.client.sync(pid)
        assert_converged(sites, 2 * count, pid)
    before = federated(sites)
    ids = [sites[0].client.federation_info(pid)["fed_id"] for pid in ("study", "other")]
    swaps = [
        (f"$JS.API.DIRECT.GET.GRM_{a}_{kind}", f"$JS.API.DIRECT.GET.GRM_{b}_{kind}")
        for a, b in (ids, ids[::-1])
        for kind in "HB"
    ]
    (tmp_path / "accounts.conf").write_text(mapped(*swaps))
    server.restart()
    for each in sites:
        with pytest.raises(BadRequest):
            each.client.sync("study")
    assert federated(sites) == before
    (tmp_path / "accounts.conf").write_text(mapped(("unused", "unused.too")))
    server.restart()
    sites[0].learn(25)
    for each in sites * 2:
        each.client.sync("study")
    assert_converged(sites, 65)


def test_blob_that_is_freed_between_two_batches_is_missing_not_mixed(
    start_server: StartServer, transport: NatsTransport, fed_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader gets all chunks of one blob or none."""
    monkeypatch.setattr(gramian_nats.blobs, "WINDOW_BYTES", 1000)
    link = transport.open({"nats_hosts": start_server().url})
    link.create(fed_id, max_blob_bytes=2**22)
    link.put_blob(fed_id, PEER, "01", [bytes([number]) * 900 for number in range(4)])
    read, batches = gramian_nats.blobs.last_messages, []

    async def read_then_free(connection: Any, stream: str, subjects: Any, **keys: Any) -> Any:
        batch = await read(connection, stream, subjects, **keys)
        batches.append(len(batch.messages))
        prefix = f"grm.{fed_id}.b.{PEER}.01."
        await free_chunks(connection, stream, prefix, [f"{prefix}{number}" for number in range(4)])
        return batch

    monkeypatch.setattr(gramian_nats.blobs, "last_messages", read_then_free)
    with pytest.raises(ContentMissing):
        link.get_blob(fed_id, PEER, "01", 4, max_bytes=4000)
    assert batches[0] < 4
    link.close()


@pytest.mark.parametrize(
    ("block", "junk"),
    [(b"NATS/1.0\r\n\r\n", bytes(390_000)), (b"NATS/1.0 \xff\xff\xff", b"junk"), (b"junk", b"junk")],
    ids=["large", "headers that are no text", "headers that are none"],
)
def test_junk_in_place_of_all_heads_and_the_roster_is_replaced_by_their_owners(
    site: Callable[[str], Any],
    start_server: StartServer,
    assert_converged: Callable[..., None],
    raw_store: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    block: bytes,
    junk: bytes,
) -> None:
    """By whoever has a login: each node reads past the others' to its own, however often that is needed."""
    monkeypatch.setattr(gramian_nats.entries, "GROUP_BYTES", 2**19)
    server = start_server()
    sites = [site(name) for name in ("one", "two", "three")]
    sites[0].create(nats_hosts=server.url)
    for each in sites[1:]:
        each.client.join("study", sites[0].invite())
    for each in sites:
        each.learn(20)
    for each in sites * 2:
        each.client.sync("study")
    about = sites[0].client.federation_info("study")
    subjects = [f"grm.{about['fed_id']}.r", *(f"grm.{about['fed_id']}.h.{id_}" for id_ in about["peersInfo"])]
    for subject in subjects:
        raw_store(server.port, subject, block, junk)
    sites[0].learn(25)
    for each in sites * 2:
        each.client.sync("study")
    assert_converged(sites, 85)


@pytest.mark.slow
def test_hundred_thousand_foreign_subjects_delay_nobody_for_long(
    site: Callable[[str], Any], start_server: StartServer, assert_converged: Callable[..., None]
) -> None:
    """As heads of nobody and as chunks beside a blob: nobody lists what strangers add."""
    server = start_server()
    sites = [site(name) for name in ("one", "two")]
    sites[0].create(nats_hosts=server.url, nats_stream_max_memory=2**27)
    sites[1].client.join("study", sites[0].invite())
    for each in sites:
        each.learn(20)
    for each in sites * 2:
        each.client.sync("study")
    started = time.monotonic()
    sites[0].client.sync("study")
    usual_s = time.monotonic() - started
    fed_id = sites[0].client.federation_info("study")["fed_id"]

    async def flood() -> None:
        client = await nats.connect(server.url, allow_reconnect=False)
        for number in range(100_000):
            await client.publish(f"grm.{fed_id}.h.{number:032x}", b"x")
            await client.publish(f"grm.{fed_id}.b.{number:032x}.x.0", b"x")
        await client.request(f"grm.{fed_id}.h.{0:032x}", b"x", timeout=60)
        await client.close()

    asyncio.run(flood())
    started = time.monotonic()
    for each in sites:
        each.learn(25)
    for each in sites * 2:
        each.client.sync("study")
    assert time.monotonic() - started < 4 * (usual_s + 5)
    assert_converged(sites, 90)
    assert [line for each in sites for line in each.client.error_log("study")] == []


@pytest.mark.slow
def test_ninety_nine_thousand_subjects_beside_a_blob_hide_no_chunk_of_it(
    start_server: StartServer, transport: NatsTransport, fed_id: str
) -> None:
    """The server lists up to 100,000 on one page, which is far larger than its max_payload."""
    server = start_server()
    link = transport.open({"nats_hosts": server.url})
    link.create(fed_id, max_blob_bytes=2**27)
    link.put_blob(fed_id, PEER, "01" * 16, [b"chunk"] * 3)

    async def flood() -> None:
        client = await nats.connect(server.url, allow_reconnect=False)
        for number in range(99_000):
            await client.publish(f"grm.{fed_id}.b.{PEER}.{'01' * 16}.{number + 10}", b"x")
        await client.request(f"grm.{fed_id}.b.{PEER}.{'01' * 16}.10", b"x", timeout=60)
        await client.close()

    asyncio.run(flood())
    assert link.missing_chunks(fed_id, PEER, "01" * 16, 4) == [3]
    link.free_peer(fed_id, PEER)
    deadline = time.monotonic() + 60
    while link.missing_chunks(fed_id, PEER, "01" * 16, 3) != [0, 1, 2]:
        assert time.monotonic() < deadline
        link.free_peer(fed_id, PEER)
        time.sleep(1)


FROZEN = """
import os, signal, sys
from pathlib import Path
from gramian.settings import Settings
from gramian.usecases.federation import lease, pulse
from gramian_local.node import opened
from gramian_nats.transport import NatsLink

lease.LEASE_S = 2.0
real = getattr(NatsLink, sys.argv[3])

def freeze(link, *arguments, **keywords):
    if not frozen:
        frozen.append(True)
        os.kill(os.getpid(), signal.SIGSTOP)
    return real(link, *arguments, **keywords)

frozen = []
setattr(NatsLink, sys.argv[3], freeze)
with opened(Settings(), Path(sys.argv[1])) as (node, _):
    pulse.run(node, sys.argv[2], "study")
"""


@pytest.mark.slow
@pytest.mark.parametrize("call", ["put_blob", "put_head"])
def test_process_frozen_in_mid_publish_spoils_nothing_when_it_thaws(
    site: Callable[[str], Any],
    start_server: StartServer,
    assert_converged: Callable[..., None],
    tmp_path: Path,
    call: str,
) -> None:
    """Two real processes of one node: the second takes over when the lease is over, and the first one's late write
    loses."""
    server = start_server()
    sites = [site(name) for name in ("one", "two")]
    sites[0].create(nats_hosts=server.url)
    sites[1].client.join("study", sites[0].invite())
    for each in sites:
        each.learn(20)
    for each in sites * 2:
        each.client.sync("study")
    sites[0].learn(25)
    arguments = [str(tmp_path / "one"), "one", call]
    with subprocess.Popen([sys.executable, "-c", FROZEN, *arguments], stderr=subprocess.PIPE) as process:
        try:
            end = time.monotonic() + 20
            while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
                assert time.monotonic() < end, "it never came to write"
                time.sleep(0.02)
            sites[0].learn(30)
            sites[0].client.sync("study")
            os.kill(process.pid, signal.SIGCONT)
            _, errors = process.communicate(timeout=30)
            assert process.returncode == 0 or b"another one took over" in errors
        finally:
            process.kill()
    for each in sites * 2:
        each.client.sync("study")
    assert_converged(sites, 95)
    log = [line for each in sites for line in each.client.error_log("study")]
    assert not [line for line in log if "another one took over" not in line]
