"""The merge of a federation as a pure function of its peers' snapshots (statistics.md, section 3).

Floating-point sums depend on their order, so the order is fixed by the peer ids: a binary trie over their bits,
most significant first. A node without a choice is its only child, so a value depends on the peers below it and on
nothing else; a peer that joins or moves on changes only the nodes above it, the others come from the cache.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from gramian.domain.canonical import join
from gramian.domain.statistics import rows
from gramian.domain.statistics.moments import Moments
from gramian.domain.statistics.rows import Rows, collected, rows_of

KEPT_BITS = 2
"""Kept are the nodes over 4, 16, 64... peers: a pulse that writes few and adds up some more is faster than one that
writes all."""
_HEX = frozenset("0123456789abcdef")


class Cache(Protocol):
    """Values of inner nodes by their digests; they may vanish at any time."""

    def load(self, digest: str) -> Rows | None: ...

    def keep(self, digest: str, value: Rows) -> Rows:
        """Store the value; what is returned reads it from where it is now."""
        ...


@dataclass(frozen=True, slots=True)
class Node:
    """`digest` names all that goes into its value: of a leaf the content digest of the snapshot of `peer`, else the
    digests of the two `halves`."""

    digest: str
    peers: int = 1
    peer: str = ""
    halves: tuple[Node, ...] = ()

    @property
    def is_kept(self) -> bool:
        """Whether it is worth a place in the cache: lowest on its path with so many peers."""
        return _level(self.peers) > max((_level(half.peers) for half in self.halves), default=0)

    def all(self) -> Iterator[Node]:
        """This node and those below it."""
        yield self
        for half in self.halves:
            yield from half.all()


def plan(digests: Mapping[str, str]) -> Node:
    """The trie of snapshots by peer id (lower-case hex of one length), known by their content digests; the order of
    the mapping does not matter. Raises ValueError without snapshots and for malformed ids."""
    peers = sorted(digests)
    if not peers:
        raise ValueError("there is no snapshot to merge")
    if any(len(peer) != len(peers[0]) or not peer or not _HEX.issuperset(peer) for peer in peers):
        raise ValueError("peer ids are lower-case hex of one length")
    return _planned([int(peer, 16) for peer in peers], [Node(digests[peer], peer=peer) for peer in peers])


def evaluate(root: Node, load: Callable[[str], Rows], cache: Cache | None = None) -> Rows:
    """The merge of all snapshots, each read by `load(peer)` if it is needed. Raises ValueError for different schemas,
    and what `load` raises."""
    return _value(root, load, cache, is_root=True)


def fold(snapshots: Mapping[str, Moments]) -> Moments:
    """The merge of snapshots in memory, without local arrays. Raises ValueError as `plan` and for different schemas."""
    return collected(evaluate(plan(dict.fromkeys(snapshots, "")), lambda peer: rows_of(snapshots[peer])))


def _planned(ids: list[int], leaves: list[Node]) -> Node:
    """Node over sorted ids, which it splits at the first bit in which any differ."""
    if len(ids) == 1:
        return leaves[0]
    bit = 1 << ((ids[0] ^ ids[-1]).bit_length() - 1)
    middle = bisect_left(ids, bit, key=bit.__and__)
    left, right = _planned(ids[:middle], leaves[:middle]), _planned(ids[middle:], leaves[middle:])
    digest = hashlib.sha256(join("gramian/fold/1", left.digest, right.digest)).hexdigest()
    return Node(digest, left.peers + right.peers, halves=(left, right))


def _value(node: Node, load: Callable[[str], Rows], cache: Cache | None, *, is_root: bool = False) -> Rows:
    if not node.halves:
        return load(node.peer)
    if cache is not None and (is_root or node.is_kept):
        known = cache.load(node.digest)
        if known is not None:
            return known
    left, right = (_value(half, load, cache) for half in node.halves)
    value = rows.add(left, right)
    return cache.keep(node.digest, value) if cache is not None and node.is_kept and not is_root else value


def _level(peers: int) -> int:
    return (peers.bit_length() - 1) // KEPT_BITS
