"""The merge of a federation as a pure function of its peers' snapshots (statistics.md, section 3).

Floating-point sums depend on their order, so the order is fixed by the peer ids: a binary trie over their bits,
most significant first. A node without a choice is its only child, so a value depends on the peers below it and on
nothing else; a peer that joins or moves on changes only the nodes above it, the others come from the cache.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, replace

from gramian.domain.canonical import join
from gramian.domain.statistics.digest import content_digest
from gramian.domain.statistics.merge import add
from gramian.domain.statistics.moments import Moments

_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class _Node:
    """A merged value and the digest of all that went into it."""

    digest: str
    value: Moments


def fold(snapshots: Mapping[str, Moments], cache: MutableMapping[str, Moments] | None = None) -> Moments:
    """Merge the snapshots by peer id (lower-case hex of one length); the order of the mapping does not matter.

    `cache` keeps inner nodes by the digest of their two halves; entries may vanish at any time. The result has no
    local arrays. Raises ValueError without snapshots, for malformed ids and for different schemas.
    """
    peers = sorted(snapshots)
    if not peers:
        raise ValueError("there is no snapshot to merge")
    if any(len(peer) != len(peers[0]) or not peer or not _HEX.issuperset(peer) for peer in peers):
        raise ValueError("peer ids are lower-case hex of one length")
    leaves = [_Node(content_digest(snapshots[peer]), replace(snapshots[peer], local=None)) for peer in peers]
    return _merge([int(peer, 16) for peer in peers], leaves, {} if cache is None else cache).value


def _merge(ids: list[int], leaves: list[_Node], cache: MutableMapping[str, Moments]) -> _Node:
    """Node over sorted ids, which it splits at the first bit in which any differ."""
    if len(ids) == 1:
        return leaves[0]
    bit = 1 << ((ids[0] ^ ids[-1]).bit_length() - 1)
    middle = bisect_left(ids, bit, key=bit.__and__)
    left = _merge(ids[:middle], leaves[:middle], cache)
    right = _merge(ids[middle:], leaves[middle:], cache)
    digest = hashlib.sha256(join("gramian/fold/1", left.digest, right.digest)).hexdigest()
    value = cache.get(digest)
    if value is None:
        value = add(left.value, right.value)
        cache[digest] = value
    return _Node(digest, value)
