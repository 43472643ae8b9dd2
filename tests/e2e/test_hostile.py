"""Whoever can write to a federation's place, members with keys of their own included, spoils nobody's statistics."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from secrets import token_bytes, token_hex
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gramian.domain import crypto
from gramian.domain.canonical import canonical_json
from gramian.domain.protocol import head as heads
from gramian.domain.protocol import nudge, roster, signed
from gramian.domain.protocol.head import Head
from gramian.domain.statistics import snapshot
from gramian.domain.statistics.digest import content_digest
from gramian.domain.statistics.moments import Moments
from gramian.domain.statistics.schema import Schema
from gramian.usecases.federation import lease, membership, pulse
from gramian.usecases.federation.membership import Member
from gramian.usecases.projects import lifecycle
from gramian_local.resident import Resident

everywhere = pytest.mark.transports("nats", "s3")
everywhere_in_time = pytest.mark.transports("nats", "s3", slow=("s3",))
NAMES = [f"x{i}" for i in range(6)]


def rows(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(60, len(NAMES)))


class Hostile:
    """Raw access to a federation of three, and the keys of its last member, `owner` of the head under attack.

    It has published twice: `first` and `first_blob` can be replayed. The two others are `honest`."""

    def __init__(self, federation: Any) -> None:
        self.federation = federation
        *self.honest, self.site = federation.sites
        federation.learn(NAMES, "C" * 6, [rows(seed) for seed in range(3)])
        federation.sync()
        self.owner, self.other = self.member(self.site), self.member(self.honest[1])
        self.fed_id, self.peer_id, self.key = self.owner.fed_id, self.owner.peer_id, self.owner.own.signing
        self.raw, self.link = federation.meeting.raw(self.fed_id), federation.meeting.link
        self.place, self.roster_place = self.raw.head(self.peer_id), self.raw.roster()
        self.first, self.first_message, self.first_blob = self.head, self.raw.stored(self.place), self.blob
        self.older_roster = self.raw.stored(self.roster_place)
        federation.admin.client.new_schedule("study", "d7")
        self.learn(3)
        self.pulse()
        federation.assert_converged(240)

    def member(self, site: Any) -> Member:
        return membership.of(site.node, lifecycle.find(site.node, site.name, "study"))

    def learn(self, seed: int) -> None:
        """At the owner, and published."""
        self.site.client.learn("study", NAMES, "C" * 6, rows(seed))
        self.site.client.sync("study")

    def pulse(self) -> None:
        """The honest members'."""
        for each in self.honest:
            each.client.sync("study")

    def federated(self) -> list[tuple[str, ...]]:
        shown = [each.client.project_info("study")["params"] for each in self.honest]
        return [(params["fed_inputs"], params["fed_digest"], params["fed_rows"]) for params in shown]

    def errors(self) -> list[str]:
        return [line for each in self.honest for line in each.client.error_log("study")]

    def refusals(self) -> list[dict[str, int]]:
        return [each.client.sync_stats("study")["rcvErrorByPeer"] for each in self.honest]

    @property
    def head(self) -> Head:
        return heads.open_head(self.raw.stored(self.place), self.fed_id, self.peer_id, self.owner.own.ed)

    @property
    def blob(self) -> bytes:
        return self.raw.stored(self.chunk(self.head.blob_id))

    def chunk(self, blob_id: str) -> str:
        return self.raw.chunk(self.peer_id, blob_id)

    def clear_blob(self) -> bytes:
        head, place = self.head, {"fed_id": self.fed_id, "peer_id": self.peer_id, "blob_id": self.head.blob_id}
        cek = heads.unwrap_key(head, self.owner.kek(head.gen))
        return b"".join(heads.decrypt_chunks([self.blob], cek, **place))

    def newer(self, **changes: Any) -> Head:
        return msgspec.structs.replace(self.head, **{"epoch": self.head.epoch + 1, **changes})

    def signed(self, **changes: Any) -> bytes:
        return heads.pack(self.newer(**changes), self.key)

    def publish(self, data: bytes, found: bytes | None = None, **changes: Any) -> None:
        """A genuine head for `data`; `found` is what stands in the stream instead."""
        about = {"blob_id": token_hex(16), "size": len(data), "blob_sha": crypto.sha256(data), **changes}
        self.write([(self.chunk(about["blob_id"]), data if found is None else found)])
        self.write([(self.place, self.signed(**about))])

    def write(self, messages: Iterable[tuple[str, bytes]]) -> None:
        self.raw.write(messages)

    def assert_refused(self, reason: str, attack: Callable[[], None]) -> None:
        """`attack` changes nothing; each honest member counts it per pulse, under one line; the owner ends it."""
        before, counted = self.federated(), self.refusals()
        attack()
        self.pulse()
        self.pulse()
        assert self.federated() == before
        counted = [{self.peer_id: counts.get(self.peer_id, 0) + 2} for counts in counted]
        assert self.refusals() == counted
        assert len(self.errors()) == 2
        for line in self.errors():
            assert re.search(rf"peer {self.peer_id}: .*{reason}.* \(2 times since", line)
        self.site.client.sync("study")
        self.pulse()
        self.federation.assert_converged(240)
        assert self.federated()[0][1] == before[0][1]
        assert self.refusals() == counted
        for each in self.honest:
            each.client.clear_error_log("study")


@pytest.fixture
def hostile(federate) -> Callable[..., Hostile]:
    return lambda **keys: Hostile(federate(3, **keys))


HEADS: dict[str, tuple[str, Callable[[Hostile], bytes]]] = {
    "random bytes": ("malformed", lambda h: token_bytes(300)),
    "nothing": ("has 0 bytes", lambda h: b""),
    "too long": ("allowed are 4096", lambda h: h.signed(wrap="A" * 5000)),
    "bottomless": ("malformed", lambda h: bytes(64) + b"[" * 4000),
    "unsigned": ("signature", lambda h: bytes(64) + h.signed()[64:]),
    "signed by a stranger": ("signature", lambda h: heads.pack(h.newer(), Ed25519PrivateKey.generate())),
    "signed by another member": ("signature", lambda h: heads.pack(h.newer(), h.other.own.signing)),
    "signed as a roster": ("signature", lambda h: signed.pack(h.newer(), h.key, roster.LABEL)),
    "of another member": ("signature", lambda h: h.raw.stored(h.raw.head(h.other.peer_id))),
    "for another member": ("another peer's", lambda h: h.signed(id=h.other.peer_id)),
    "for another federation": ("another federation's", lambda h: h.signed(fed_id="0" * 32)),
    "replayed": ("older than one that was accepted", lambda h: h.first_message),
    "equivocation": ("two different snapshots", lambda h: h.signed(epoch=h.head.epoch, blob_sha="0" * 64)),
    "10^12 bytes": ("disagree", lambda h: h.signed(size=10**12)),
    "2^39 bytes": ("claims 549755813888", lambda h: h.signed(size=2**39, chunks=2**16, chunk_size=2**23)),
    "10^12 chunks": ("malformed", lambda h: h.signed(size=10**12, chunks=10**12, chunk_size=1)),
    "no chunks": ("disagree", lambda h: h.signed(chunks=0)),
    "negative size": ("malformed", lambda h: h.signed(size=-1)),
    "endless epoch": ("malformed", lambda h: h.signed(epoch=2**60)),
    "blobs of all": ("malformed", lambda h: h.signed(blob_id="*")),
}


def header(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text


def wide(blob: bytes) -> bytes:
    """Its tensors claim 10^12 numbers."""
    text = blob[8 : 8 + int.from_bytes(blob[:8], "little")]
    return header(text.replace(b'"shape":[6]', b'"shape":[1000000000000]'))


BLOBS: dict[str, tuple[str, Callable[[Hostile], None]]] = {
    "missing": ("missing", lambda h: h.write([(h.place, h.signed(blob_id=token_hex(16)))])),
    "short": ("not the one that its head announces", lambda h: h.publish(h.blob, h.blob[:-1])),
    "long": ("larger than the", lambda h: h.publish(h.blob, h.blob + b"x")),
    "altered": ("not the one that its head announces", lambda h: h.publish(h.blob, h.blob[:-1] + b"x")),
    "freed": ("freed|announces", lambda h: h.publish(h.blob, b"")),
    "larger than its attributes need": ("need at most", lambda h: h.publish(h.blob + bytes(2**18))),
    "of other statistics": ("not those that its head announces", lambda h: h.publish(h.first_blob)),
    "endless header": ("no header", lambda h: h.publish(b"\xff" * 8 + h.blob[8:])),
    "bottomless header": ("not JSON", lambda h: h.publish(header(b'{"a":' * 800))),
    "endless number": ("not JSON", lambda h: h.publish(header(b'{"s":' + b"9" * 4500 + b"}"))),
    "10^12 numbers": ("not float64 of shape", lambda h: h.publish(wide(h.blob))),
    "sealed in a clear federation": ("no key|does not open", lambda h: h.publish(h.blob, wrap="A" * 80)),
}

STATISTICS: dict[str, tuple[str, Callable[[Moments], Moments]]] = {
    "not a number": ("s is not finite: attribute 'x0'", lambda m: replace(m, s=m.s * np.nan)),
    "infinite": ("t4 is not finite: attribute 'x0'", lambda m: replace(m, t4=m.t4 + np.inf)),
    "negative": ("T4 is negative: attribute 'x0'", lambda m: replace(m, t4=-m.t4)),
    "of one row": (r"S\^2 is above N Q", lambda m: replace(m, n=1)),
    "inconsistent": ("moments of 'x1' are impossible", lambda m: replace(m, P=m.P + 1e3 * (np.arange(21) == 1))),
    "of other names": ("differ", lambda m: replace(m, schema=Schema.of((f"y{i}", "C") for i in range(6)))),
}


def moved(h: Hostile) -> None:
    """The older ciphertext under a new head, with its own key, wrapped for that head."""
    new = {"epoch": h.head.epoch + 1, "blob_id": token_hex(16)}
    kek, place = h.owner.kek(h.head.gen), {"fed_id": h.fed_id, "peer_id": h.peer_id, "gen": h.head.gen}
    h.publish(h.first_blob, wrap=heads.wrap_key(heads.unwrap_key(h.first, kek), kek, **place, **new), **new)


SEALED: dict[str, tuple[str, Callable[[Hostile], None]]] = {
    "clear": ("not encrypted", lambda h: h.publish(h.clear_blob(), wrap="")),
    "spliced key": ("does not open", lambda h: h.publish(h.first_blob, wrap=h.first.wrap)),
    "spliced blob": ("does not open", moved),
    "key of no generation": ("no key of generation 7", lambda h: h.publish(h.blob, gen=7)),
    "key that is no text": ("not base64", lambda h: h.publish(h.blob, wrap="?")),
}


@everywhere
def test_bad_heads_are_refused_and_their_owner_restores_its_own(hostile) -> None:
    """Forged, replayed, contradictory or absurd: the last good snapshot stays."""
    h = hostile()
    for reason, forge in HEADS.values():
        h.assert_refused(reason, lambda forge=forge: h.write([(h.place, forge(h))]))


@everywhere
@pytest.mark.parametrize(("encrypt", "blobs"), [(False, BLOBS), (True, SEALED)], ids=["clear", "sealed"])
def test_bad_blobs_under_genuine_heads_are_refused(hostile, encrypt: bool, blobs: dict) -> None:
    """Keys and bytes are bound to their place, nothing without bounds is read, and nobody falls back to clear."""
    h = hostile(fed_encrypt=encrypt)
    for reason, publish in blobs.values():
        h.assert_refused(reason, lambda publish=publish: publish(h))


@everywhere_in_time
def test_statistics_that_no_rows_have_are_refused(hostile) -> None:
    """Although a member signed them and all digests fit."""
    h = hostile()
    for reason, change in STATISTICS.values():
        bad = change(snapshot.decode(h.blob))
        h.assert_refused(reason, lambda m=bad: h.publish(snapshot.encode(m), content_digest=content_digest(m)))


def roster_of_a_stranger(h: Hostile) -> bytes:
    key = Ed25519PrivateKey.generate()
    named = {"admin_ed": key.public_key().public_bytes_raw().hex()}
    return roster.pack(msgspec.structs.replace(h.owner.roster, v=99, **named), key)


def roster_without_a_schedule(h: Hostile) -> bytes:
    admin = h.member(h.federation.admin)
    policy = msgspec.structs.replace(admin.roster.policy, sync_sched="never")
    return roster.pack(msgspec.structs.replace(admin.roster, v=99, policy=policy), admin.own.signing)


ROSTERS: dict[str, tuple[str, Callable[[Hostile], bytes]]] = {
    "random bytes": ("malformed", lambda h: token_bytes(300)),
    "of a stranger": ("another federation's", roster_of_a_stranger),
    "of a member": ("signature", lambda h: roster.pack(msgspec.structs.replace(h.owner.roster, v=99), h.key)),
    "of an admin that breaks the rules": ("schedule is none", roster_without_a_schedule),
    "too long": ("allowed are 350000", lambda h: bytes(400_000)),
    "older": ("", lambda h: h.older_roster),
}


@everywhere_in_time
@pytest.mark.parametrize("case", ROSTERS)
def test_bad_roster_is_replaced_and_changes_nothing(hostile, case: str) -> None:
    """Only the founder's key makes rosters, versions only grow, and any member puts the newest back."""
    h, (reason, forge) = hostile(), ROSTERS[case]
    genuine, before = h.raw.stored(h.roster_place), h.federated()
    h.write([(h.roster_place, forge(h))])
    h.site.client.sync("study")
    assert h.raw.stored(h.roster_place) == genuine
    h.pulse()
    assert h.federated() == before
    found = [f"forged roster was found and replaced: .*{reason}"] if reason else []
    log = h.site.client.error_log("study")
    assert len(log) == len(found)
    assert all(map(re.search, found, log))
    assert h.site.client.federation_info("study")["sync_sched"] == "d7"


@everywhere_in_time
def test_junk_beside_what_is_published_costs_little(hostile) -> None:
    """Chunks beside the owner's own, chunks and heads of nobody, words that are no nudges: 10,000 of each, over S3 500,
    for there it is the emulator that is slow."""
    h = hostile()
    many, blob_id = range(500 if h.federation.meeting.name == "s3" else 10_000), h.head.blob_id
    h.write((h.raw.chunk(h.peer_id, blob_id, f"junk{i}"), b"x") for i in many)
    h.write((h.raw.chunk(f"{i}", "x", "y"), b"x") for i in many)
    h.write((h.raw.head(f"{i:032x}"), b"x") for i in many)
    h.raw.shout(*[b"x"] * len(many))
    before, started = h.federated(), time.monotonic()
    h.federation.sync(1)
    assert h.federated() == before
    h.learn(4)
    h.pulse()
    assert time.monotonic() - started < 10
    h.federation.assert_converged(300)
    assert h.errors() == []


@pytest.mark.parametrize("kind", ["H", "B"])
def test_server_refuses_to_wipe_what_is_published(hostile, kind: str) -> None:
    """NATS: rollup, purge, deletion of messages, and the softening of the rules against them."""
    h = hostile()
    stream, ask = f"GRM_{h.fed_id}_{kind}", h.raw.ask
    kept = {key: h.raw.stored(key) for key in (h.raw.entries() if kind == "H" else h.raw.chunks())}
    soft = {**json.loads(ask(f"$JS.API.STREAM.INFO.{stream}"))["config"], "deny_purge": False, "deny_delete": False}
    attempts = [
        ask(f"$JS.API.STREAM.UPDATE.{stream}", json.dumps(soft).encode()),
        ask(f"$JS.API.STREAM.PURGE.{stream}"),
        *(ask(f"$JS.API.STREAM.MSG.DELETE.{stream}", b'{"seq": %d}' % number) for number in range(1, 20)),
        *(ask(min(kept), b"x", {"Nats-Rollup": scope}) for scope in ("all", "sub")),
    ]
    assert all("error" in json.loads(answer) for answer in attempts)
    assert {key: h.raw.stored(key) for key in kept} == kept


@everywhere_in_time
def test_evicted_member_that_goes_on_publishing_is_not_heard(hostile) -> None:
    """Its signature is still right, its place in the roster is gone."""
    h = hostile()
    blob = h.blob
    h.honest[0].client.evict("study", h.peer_id)
    h.pulse()
    h.pulse()
    before, stats = h.federated(), h.honest[0].client.sync_stats("study")
    assert before[0][2] == "120"
    h.publish(blob)
    h.pulse()
    assert h.federated() == before
    assert h.honest[0].client.sync_stats("study") == stats
    assert h.errors() == []


@everywhere_in_time
def test_newcomer_takes_no_replayed_head(hostile, site) -> None:
    """It has seen no newer one, but the admin told it how far every member was."""
    h, late = hostile(), site("late")
    h.write([(h.place, h.first_message)])
    h.federation.join(late)
    late.client.sync("study")
    assert late.client.sync_stats("study")["rcvErrorByPeer"] == {h.peer_id: 1}
    assert f"peer {h.peer_id}: its head is older than the admin's checkpoint" in late.client.error_log("study")[0]
    assert late.client.project_info("study")["params"]["fed_rows"] == "120"
    h.federation.sync()
    h.federation.assert_converged(240)


@everywhere_in_time
def test_only_a_members_fresh_nudge_causes_a_pulse(hostile, monkeypatch) -> None:
    """Not a stranger's, not one in another's name, not an old one, not the same one again."""
    h, pulses, said = hostile(), [], []
    monkeypatch.setattr(h.link, "nudge", lambda _, fed_id, data: said.append(data))
    h.site.client.sync("study")
    h.honest[0].client.start_pulse("study")
    node = h.honest[0].node
    monkeypatch.setattr(type(node.scheduler), "soon", lambda _, cid, pid: pulses.append((cid, pid)))

    def forged(key: Ed25519PrivateKey, **changes: object) -> bytes:
        body = canonical_json({**json.loads(said[0][64:]), **changes})
        return crypto.sign(key, nudge.LABEL, body) + body

    resident = Resident(node)
    resident.start()
    try:
        time.sleep(0.5)
        h.raw.shout(b"", token_bytes(200), bytes(10_000), h.raw.stored(h.place))
        h.raw.shout(forged(Ed25519PrivateKey.generate()), forged(h.other.own.signing))
        h.raw.shout(forged(h.key, ts=int(time.time()) - 3600), forged(h.key, fed_id="0" * 32))
        time.sleep(0.3)
        assert pulses == []
        h.raw.shout(*[said[0]] * 20)
        time.sleep(0.3)
        assert pulses == [("org0", "study")]
    finally:
        resident.stop()


@everywhere
@pytest.mark.parametrize("frozen_in", ["put_blob", "put_head"])
def test_pulse_frozen_in_mid_publish_disturbs_no_later_one(hostile, monkeypatch, frozen_in: str) -> None:
    """It thaws when another process of the same node has long published something newer."""
    h = hostile()
    real, calls = getattr(h.link, frozen_in), []

    def freeze(link: Any, *args: Any, **keys: Any) -> object:
        calls.append(args)
        if len(calls) == 1:
            with monkeypatch.context() as other:
                other.setattr(lease.Lease, "acquire", lambda *_: None)
                other.setattr(lease.Lease, "renew", lambda *_: None)
                h.site.client.learn("study", NAMES, "C" * 6, rows(5))
                pulse.run(h.site.node, h.site.name, "study")
        return real(link, *args, **keys)

    monkeypatch.setattr(h.link, frozen_in, freeze)
    h.learn(4)
    assert len(calls) > 1
    h.pulse()
    h.federation.assert_converged(360)
    assert h.errors() + h.site.client.error_log("study") == []


@everywhere_in_time
@pytest.mark.parametrize("encrypt", [False, True])
def test_overwritten_chunk_is_put_back_by_its_owner(hostile, encrypt: bool) -> None:
    """Of a snapshot that nobody has taken in yet: the head is genuine, the bytes are not."""
    h = hostile(fed_encrypt=encrypt)
    before = h.federated()
    h.learn(4)
    h.write([(h.chunk(h.head.blob_id), bytes(len(h.blob)))])
    h.pulse()
    assert h.federated() == before
    h.site.client.sync("study")
    h.pulse()
    h.federation.assert_converged(300)


@everywhere_in_time
def test_snapshot_replaced_between_head_and_blob_is_taken_in_at_once(hostile, monkeypatch) -> None:
    """The owner publishes anew and frees the old blob just when it is fetched: no error, the newer one counts."""
    h = hostile()
    get_blob, calls = h.link.get_blob, []

    def late(link: Any, *args: Any, **keys: Any) -> list[bytes]:
        calls.append(args)
        if len(calls) == 1:
            h.learn(5)
        return get_blob(link, *args, **keys)

    h.learn(4)
    monkeypatch.setattr(h.link, "get_blob", late)
    h.pulse()
    h.federation.assert_converged(360)
    assert h.errors() == []


@everywhere_in_time
def test_member_that_publishes_faster_than_others_read_holds_nobody_up(hostile, monkeypatch) -> None:
    """New heads without blobs, again and again: given up after a few."""
    h = hostile()
    get_blob, calls = h.link.get_blob, []

    def outrun(link: Any, *args: Any, **keys: Any) -> list[bytes]:
        calls.append(args)
        if len(calls) <= 12:  # three attempts in two pulses of two members
            h.write([(h.place, h.signed(blob_id=token_hex(16)))])
        return get_blob(link, *args, **keys)

    monkeypatch.setattr(h.link, "get_blob", outrun)
    h.assert_refused("faster than", lambda: h.write([(h.place, h.signed(blob_id=token_hex(16)))]))


@everywhere
def test_everything_clear_is_signed_or_named_by_something_signed(hostile) -> None:
    """Heads by their owners, the roster by the founder, chunks through the digest in a head."""
    h = hostile(fed_encrypt=False)
    listed = h.owner.roster
    keys = {h.raw.head(peer.id): (bytes.fromhex(peer.ed), heads.LABEL) for peer in listed.members}
    keys[h.roster_place] = (bytes.fromhex(listed.admin_ed), roster.LABEL)
    assert h.raw.entries() == set(keys)
    messages = {place: h.raw.stored(place) for place in keys}
    for place, (key, label) in keys.items():
        crypto.verify(key, label, messages[place][64:], messages[place][:64])
    announced = {json.loads(message[64:]).get("blob_sha") for message in messages.values()} - {None}
    assert {crypto.sha256(h.raw.stored(chunk)) for chunk in h.raw.chunks()} == announced
