"""Equal inputs give equal bits: any order of arrival, any cache, any BLAS build."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gramian.domain.statistics import packed, trie
from gramian.domain.statistics.clamp import clamp
from gramian.domain.statistics.derived import covariance
from gramian.domain.statistics.digest import content_digest, denormals_work
from gramian.domain.statistics.gaps import expand
from gramian.domain.statistics.kernel import accumulate
from gramian.domain.statistics.layout import SUMS
from gramian.domain.statistics.merge import add, rebase
from gramian.domain.statistics.moments import Moments
from gramian.domain.statistics.origin import standard_origin
from gramian.domain.statistics.rows import Rows, collected, rows_of
from gramian.domain.statistics.schema import Schema
from gramian.domain.statistics.snapshot import decode, encode
from gramian.domain.statistics.trie import evaluate, fold, plan
from gramian.domain.statistics.widen import empty

SEEDS = st.integers(0, 2**32 - 1)
SCHEMA = Schema(("a", "b", "c", "d"), 3, (0, 1, 2, 3))


def peer(k: int) -> str:
    return hashlib.sha256(str(k).encode()).hexdigest()[:32]


def snapshots(count: int) -> dict[str, Moments]:
    rng = np.random.default_rng(3)
    result = {}
    for k in range(count):
        x = rng.normal([k, 1e9, 1e-6], [1, 1, 1e-7], (50, 3))
        x = np.column_stack((x, rng.integers(0, 2, 50))).astype(float)
        x[rng.random(50) < k % 3 / 5, k % 4] = np.nan
        m = accumulate(x, SCHEMA)
        result[peer(k)] = clamp(rebase(m, standard_origin(m)))
    return result


@given(order=st.permutations(range(9)))
@settings(deadline=None, max_examples=30)
def test_fold_in_any_order_gives_equal_bits(order: list[int]) -> None:
    """The mapping's order, and with it the order of arrival, does not matter; plain adding in that order does."""
    peers = snapshots(9)
    shuffled = {peer(k): peers[peer(k)] for k in order}
    assert content_digest(fold(shuffled)) == content_digest(fold(peers))


@given(seed=SEEDS)
@settings(deadline=None, max_examples=30)
def test_fold_equals_pooled_rows(seed: int, nasty: Callable, assert_moments: Callable) -> None:
    """The merge of the peers is that of all their rows."""
    x, schema = nasty(seed)
    parts = np.array_split(x, 5)
    m = fold({peer(k): accumulate(part, schema) for k, part in enumerate(parts)})
    assert_moments(m, x, tolerance=1e-12)
    assert m.local is None


def test_fold_of_one_peer_is_its_own_snapshot() -> None:
    """Paths are compressed: a lone peer is its own value."""
    peers = snapshots(1)
    assert content_digest(fold(peers)) == content_digest(peers[peer(0)])


def test_fold_splits_at_the_first_differing_bit() -> None:
    """8... and f... share the first bit, which 7... does not have, though 7 and 8 are neighbours as numbers."""
    first, second, third = snapshots(3).values()
    folded = fold({"7f": first, "80": second, "ff": third})
    assert content_digest(folded) == content_digest(add(first, add(second, third)))


class Kept:
    """A cache that remembers what it was asked to keep."""

    def __init__(self) -> None:
        self.values: dict[str, bytearray] = {}

    def load(self, digest: str) -> Rows | None:
        return rows_of(decode(self.values[digest])) if digest in self.values else None

    def keep(self, digest: str, value: Rows) -> Rows:
        self.values[digest] = encode(value)
        return rows_of(decode(self.values[digest]))


def evaluated(peers: Mapping[str, Moments], cache: Kept | None) -> Moments:
    root = plan({id_: content_digest(m) for id_, m in peers.items()})
    return collected(evaluate(root, lambda id_: rows_of(peers[id_]), cache))


def whole_arrays(peers: Mapping[str, Moments], bit: int = 127) -> Moments:
    """The same trie over 128-bit ids, written down another way: adds whole arrays, keeps nothing."""
    if len(peers) == 1:
        return next(iter(peers.values()))
    sides: tuple[dict[str, Moments], dict[str, Moments]] = {}, {}
    for id_, m in peers.items():
        sides[int(id_, 16) >> bit & 1][id_] = m
    values = [whole_arrays(side, bit - 1) for side in sides if side]
    return values[0] if len(values) == 1 else add(*values)


@given(seed=SEEDS, count=st.integers(1, 12), changed=st.integers(0, 11))
@settings(deadline=None, max_examples=60)
def test_evaluate_by_blocks_and_with_a_cache_gives_the_bits_of_whole_arrays(
    seed: int, count: int, changed: int, nasty: Callable
) -> None:
    """Also after one peer moved on and the rest comes from the cache."""
    x, schema = nasty(seed)
    parts = np.array_split(x, count + 1)
    peers = {peer(seed + k): accumulate(part, schema) for k, part in enumerate(parts[:-1])}
    cache = Kept()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "BLOCK_ENTRIES", 4)
        patch.setattr(trie, "KEPT_BITS", 1)
        assert content_digest(evaluated(peers, cache)) == content_digest(whole_arrays(peers))
        peers[peer(seed + changed % count)] = accumulate(parts[-1], schema)
        assert content_digest(evaluated(peers, cache)) == content_digest(whole_arrays(peers))


def test_evaluate_with_a_cache_recomputes_only_above_the_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """After one peer moved on, the other half comes from the cache, and the result is that without a cache."""
    ids = [f"{k:x}0" for k in range(16)]
    peers = dict(zip(ids, list(snapshots(16).values()), strict=True))
    cache = Kept()
    adds = []
    monkeypatch.setattr(trie.rows, "add", lambda a, b, real=trie.rows.add: adds.append(1) or real(a, b))
    evaluated(peers, cache)
    assert len(adds) == 15
    assert len(cache.values) == 4  # over 4 peers each; what is made of all is its caller's to keep
    evaluated(peers, cache)
    assert len(adds) == 15 + 3
    changed = {**peers, "30": add(peers["30"], peers["00"])}
    warm = evaluated(changed, cache)
    assert len(adds) == 18 + 3 + 3
    assert content_digest(warm) == content_digest(fold(changed))


def test_evaluate_reads_no_snapshot_below_what_is_kept() -> None:
    """Of sixteen peers of whom one moved on, the four of its quarter are read."""
    ids = [f"{k:x}0" for k in range(16)]
    peers = dict(zip(ids, snapshots(16).values(), strict=True))
    cache = Kept()
    evaluated(peers, cache)
    peers["30"] = add(peers["30"], peers["00"])
    read: list[str] = []
    root = plan({id_: content_digest(m) for id_, m in peers.items()})
    evaluate(root, lambda id_: read.append(id_) or rows_of(peers[id_]), cache)
    assert sorted(read) == ["00", "10", "20", "30"]


def test_fold_depends_on_published_bytes_only() -> None:
    """A node's own snapshot in memory and the same one read back give equal bits."""
    peers = snapshots(4)
    read = {id_: decode(encode(m)) for id_, m in peers.items()}
    assert content_digest(fold(read)) == content_digest(fold(peers))


@pytest.mark.parametrize("ids", [[], ["ab", "abc"], ["AB", "cd"], [""], ["0x1f"], ["zz"]])
def test_fold_of_malformed_ids_is_refused(ids: list[str]) -> None:
    """Ids are lower-case hex of one length, and there is at least one."""
    with pytest.raises(ValueError, match=r"snapshot|hex"):
        fold({id_: empty(SCHEMA) for id_ in ids})


def test_content_digest_depends_on_every_part_of_the_content() -> None:
    """Schema, gaps, n and each array count; local arrays do not."""
    m = next(iter(snapshots(2).values()))
    m = expand(m, [0, 2])
    others: list[Moments] = [replace(m, n=m.n + 1), replace(m, gaps=(0, 3))]
    others.append(replace(m, schema=Schema(("a", "b", "c", "e"), 3, (0, 1, 2, 3))))
    others.append(replace(m, schema=Schema(("a", "b", "c", "d"), 3, (0, 1, 2, 2))))
    for name in SUMS:
        values = getattr(m, name).copy()
        values.flat[-1] = np.nextafter(values.flat[-1], 10)
        others.append(replace(m, **{name: values}))
    assert len({content_digest(other) for other in [m, *others]}) == 1 + len(others)
    assert content_digest(replace(m, local=None)) == content_digest(m)


def test_content_digest_is_that_of_the_written_layout() -> None:
    """Tag, JSON, n and arrays as statistics.md has them, so that other implementations can agree."""
    m = accumulate(np.array([[3.0]]), Schema(("a",), 1, (0,)))
    tag, shape = b"gramian/statistics/1", b'{"gaps":[],"groups":[0],"names":["a"],"types":"C"}'
    head = b"".join(len(part).to_bytes(4, "big") + part for part in (tag, shape))
    numbers = (1).to_bytes(8, "little") + np.array([3.0, 0, 0, 0, 0], dtype="<f8").tobytes()
    assert content_digest(m) == hashlib.sha256(head + numbers).hexdigest()


def test_content_digest_sees_no_negative_zero_and_no_memory_order() -> None:
    """-0.0 and 0.0 are one number; so is a matrix whichever way it lies in memory."""
    m = next(iter(snapshots(1).values()))
    turned = replace(m, G=np.asfortranarray(m.G))
    assert content_digest(turned) == content_digest(m)
    zero = empty(SCHEMA)
    assert content_digest(replace(zero, s=-zero.s)) == content_digest(zero)
    assert b"\x00" * 7 + b"\x80" not in encode(replace(zero, s=-zero.s))


def test_denormals_work_here() -> None:
    """The reference environment keeps denormals; a node that does not must refuse to start."""
    assert denormals_work()


SCRIPT = """
import sys
from pathlib import Path
from gramian.domain.statistics.snapshot import decode
from gramian.domain.statistics.trie import fold
from gramian.domain.statistics.digest import content_digest
from gramian.domain.statistics.derived import covariance
import hashlib
folder = Path(sys.argv[1])
m = fold({path.name: decode(path.read_bytes()) for path in folder.iterdir()})
print(content_digest(m), hashlib.sha256(covariance(m).tobytes()).hexdigest())
"""


def run(folder: os.PathLike[str], settings: Mapping[str, str]) -> str:
    environment = {**os.environ, **settings}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_fold_under_other_blas_kernels_and_threads_gives_equal_bits(tmp_path: os.PathLike[str]) -> None:
    """Core types and thread counts change what BLAS returns in the last digits; nothing of that gets in."""
    peers = snapshots(7)
    for id_, m in peers.items():
        (tmp_path / id_).write_bytes(encode(m))  # type: ignore[operator]
    m = fold(peers)
    wanted = f"{content_digest(m)} {hashlib.sha256(covariance(m).tobytes()).hexdigest()}\n"
    for core in ("Haswell", "SkylakeX", "Prescott"):
        for threads in ("1", "2"):
            assert run(tmp_path, {"OPENBLAS_CORETYPE": core, "OPENBLAS_NUM_THREADS": threads}) == wanted
    # numpy's own loops, too, with and without its newer vector instructions.
    assert run(tmp_path, {"NPY_DISABLE_CPU_FEATURES": "X86_V4 X86_V3"}) == wanted
