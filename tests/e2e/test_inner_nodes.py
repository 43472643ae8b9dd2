"""What a node keeps of its merges saves work and nothing else: lost, damaged or stale, the bits stay the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gramian.domain.statistics import packed, snapshot, trie
from gramian.domain.statistics.digest import content_digest
from gramian.domain.statistics.trie import fold
from gramian.ports import Delete
from gramian.usecases import records
from gramian.usecases.federation import accept, inner_nodes, membership
from gramian.usecases.projects import blobs, lifecycle
from gramian.usecases.records import TRIE

pytestmark = pytest.mark.transports("memory")
NAMES = [f"x{i}" for i in range(4)]
SITES = 6


@pytest.fixture(autouse=True)
def keeps_every_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six members are enough then."""
    monkeypatch.setattr(trie, "KEPT_BITS", 1)


@dataclass
class Study:
    """A federation of six that has merged once; what is looked at is the admin's node."""

    federation: Any
    rows: int = 0
    seed: int = 0

    def learn(self, number: int) -> None:
        """New rows at one site, and at no other."""
        self.seed += 1
        self.rows += 60
        rows = np.random.default_rng(self.seed).normal(self.seed, 1, size=(60, len(NAMES)))
        self.federation.sites[number].client.learn("study", NAMES, "CCCC", rows)

    def sync(self) -> None:
        """Everybody agrees, and the admin's node has the bits of adding whole arrays."""
        self.federation.sync()
        self.federation.assert_converged(self.rows)
        known = accept.accepted(self.node, membership.of(self.node, self.project))
        peers = {
            id_: snapshot.decode(self.blob(entry.record.blob)) for id_, entry in known.items() if entry.record.blob
        }
        assert self.federation.params("fed_digest")[0] == content_digest(fold(peers))

    @property
    def node(self) -> Any:
        return self.federation.admin.node

    @property
    def project(self) -> lifecycle.Project:
        return lifecycle.find(self.node, self.federation.admin.name, "study")

    def blob(self, digest: str) -> bytes:
        return self.node.blobs.get(self.project.uid, digest)

    def path(self, digest: str) -> Path:
        return self.node.settings.home / "blobs" / self.project.uid / digest[:2] / digest

    def nodes(self) -> dict[str, str]:
        return records.load_or(self.node.state, self.project.partition, TRIE, records.Trie()).record.nodes

    def note(self, nodes: dict[str, str]) -> None:
        self.node.state.write(records.put(self.project.partition, TRIE, records.Trie(nodes), "*"))


@pytest.fixture
def study(federate: Callable[..., Any]) -> Study:
    study = Study(federate(SITES))
    for number in range(SITES):
        study.learn(number)
    study.sync()
    assert len(study.nodes()) >= 3
    return study


def forget_item(study: Study) -> None:
    study.node.state.write(Delete(study.project.partition, TRIE))


def remove_blobs(study: Study) -> None:
    for blob in study.nodes().values():
        study.node.blobs.delete(study.project.uid, blob)


def damage_blobs(study: Study) -> None:
    for blob in study.nodes().values():
        data = bytearray(study.path(blob).read_bytes())
        data[-9] ^= 1
        study.path(blob).write_bytes(data)


def cut_blobs(study: Study) -> None:
    for blob in study.nodes().values():
        study.path(blob).write_bytes(study.path(blob).read_bytes()[:-8])


def point_nowhere(study: Study) -> None:
    study.note(dict.fromkeys(study.nodes(), "0" * 64))


def point_to_no_snapshot(study: Study) -> None:
    blob = study.node.blobs.put(study.project.uid, b"not a snapshot")
    study.note(dict.fromkeys(study.nodes(), blob))


HARM = [forget_item, remove_blobs, damage_blobs, cut_blobs, point_nowhere, point_to_no_snapshot]


@pytest.mark.parametrize("is_large", [False, True])
def test_merge_without_its_inner_nodes_gives_the_same_bits(
    study: Study, is_large: bool, request: pytest.FixtureRequest
) -> None:
    """Whatever happened to them, also where snapshots are too large to be read at once; and what a merge keeps then is
    good again."""
    if is_large:
        request.getfixturevalue("small_blocks")
    for number, harm in enumerate(HARM):
        harm(study)
        study.learn(number)
        study.sync()
        assert all(study.blob(blob) for blob in study.nodes().values())
    assert study.federation.admin.client.error_log("study") == []


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is read in blocks, in parts of a row or two."""
    monkeypatch.setattr(inner_nodes, "WHOLE_BYTES", 64)
    monkeypatch.setattr(snapshot, "BLOCK_BYTES", 32)
    monkeypatch.setattr(packed, "BLOCK_ENTRIES", 4)


def test_merge_by_blocks_with_a_lost_snapshot_takes_it_in_anew(study: Study, small_blocks: None) -> None:
    """The node says so, goes on without it, and has it again after the next pulse."""
    lost = accept.accepted(study.node, membership.of(study.node, study.project))
    victim = membership.of(
        study.federation.sites[2].node,
        lifecycle.find(study.federation.sites[2].node, study.federation.sites[2].name, "study"),
    ).peer_id
    blob = lost[victim].record.blob
    forget_item(study)
    study.path(blob).write_bytes(study.path(blob).read_bytes()[:-8])
    study.learn(3)
    study.federation.sync(rounds=3)
    study.sync()
    (line,) = study.federation.admin.client.error_log("study")
    assert f"peer {victim}" in line
    assert "fetched again" in line


def test_inner_nodes_are_bounded_and_swept(study: Study) -> None:
    """Rounds leave nothing behind; the broom removes what nothing names, and no node that is kept."""
    stray = study.node.blobs.put(study.project.uid, b"what a killed merge left")
    sizes = set()
    for number in range(4):
        study.learn(number % 2 + 1)
        study.sync()
        sizes.add(len(list(study.node.blobs.list(study.project.uid))))
    assert len(sizes) == 1
    blobs.discard(study.node, study.project, [info.digest for info in study.node.blobs.list(study.project.uid)])
    left = {info.digest for info in study.node.blobs.list(study.project.uid)}
    assert stray not in left
    assert set(study.nodes().values()) <= left
    study.learn(5)
    study.sync()


def test_members_that_leave_take_their_inner_nodes_along(study: Study) -> None:
    """Until nobody but one shares rows, and nothing is kept but the merge itself."""
    for site in study.federation.sites[2:]:
        site.client.leave("study")
    study.federation.sites[:] = study.federation.sites[:2]
    study.rows = 120
    study.sync()
    assert len(study.nodes()) == 1
    names = {info.digest for info in study.node.blobs.list(study.project.uid)}
    assert set(study.nodes().values()) <= names
