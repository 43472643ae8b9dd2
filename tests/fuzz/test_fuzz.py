"""Whatever reads bytes of strangers refuses what it cannot read, in its own words, and never falls over."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

HERE = Path(__file__).parent
MUTANTS = 200
SECONDS = 8
MAX_CORPUS_BYTES = 200_000
GRAINS = [b"", b"\0", b"\xff", b"\n", b'"', b"{", b"[", b"}", b"]", b"-", b"0", b"9" * 20, b"1e999", b"NaN", b"null"]
GRAINS += [b"\\ud800", b"\xed\xa0\x80", b"=", b"%", b"\x7f" * 8, b"\0" * 8, b"[" * 2000]


def corpus(harness: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((HERE / "corpus" / harness).iterdir())}


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A few pieces cut out, doubled, replaced, or one bit turned."""
    for _ in range(rng.randint(1, 4)):
        start = rng.randint(0, len(data))
        end = min(len(data), start + rng.choice([0, 1, 1, 2, 8, 64]))
        piece = data[start:end]
        kind = rng.randrange(4)
        if kind == 0:
            piece = rng.choice(GRAINS)
        elif kind == 1:
            piece += piece
        elif kind == 2 and piece:
            piece = bytes([piece[0] ^ 1 << rng.randrange(8)]) + piece[1:]
        else:
            piece = b""
        data = data[:start] + piece + data[end:]
    return data


def test_every_harness_reads_its_seeds(harness: str, harnesses: ModuleType) -> None:
    """The corpus leads the fuzz to what valid input reaches: every path reads something."""
    files = corpus(harness)
    assert [name for name, data in files.items() if not harnesses.attempt(harness, data)] == []
    for number, path in enumerate(harnesses.HARNESSES[harness]):
        assert any(succeeds(path, data, harnesses) for data in files.values()), f"path {number} of {harness}"


def succeeds(path: object, data: bytes, harnesses: ModuleType) -> bool:
    try:
        path(data)  # type: ignore[operator]
    except harnesses.ALLOWED:
        return False
    return True


def test_corpus_has_every_seed_and_is_small(harness: str, seeds: ModuleType) -> None:
    """`python tests/fuzz/seeds.py` was run after the last new seed."""
    assert corpus(harness).keys() == seeds.all_seeds()[harness].keys()
    assert sum(path.stat().st_size for path in (HERE / "corpus").rglob("*") if path.is_file()) < MAX_CORPUS_BYTES


def test_mutants_of_the_corpus_are_read_or_refused(harness: str, harnesses: ModuleType) -> None:
    """Nothing but the documented refusals, whose texts can be sent."""
    files = list(corpus(harness).values())

    @settings(max_examples=MUTANTS, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(files), st.randoms(use_true_random=False), st.just(b"") | st.binary(max_size=40))
    def check(data: bytes, rng: random.Random, instead: bytes) -> None:
        harnesses.attempt(harness, instead or mutated(data, rng))

    check()


@pytest.mark.slow
def test_coverage_guided_fuzz_finds_nothing(harness: str, tmp_path: Path) -> None:
    """A few seconds of libFuzzer; longer runs are started by hand (see fuzz.py)."""
    pytest.importorskip("atheris", reason="atheris has no wheel for this platform")
    found = tmp_path / "found"
    found.mkdir()
    options = [f"-max_total_time={SECONDS}", "-timeout=20", "-rss_limit_mb=4096", f"-artifact_prefix={tmp_path}/"]
    command = [sys.executable, str(HERE / "fuzz.py"), harness, *options, str(found), str(HERE / "corpus" / harness)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS + 60, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert any(found.iterdir()), "the fuzzer ran without finding anything new to keep"
