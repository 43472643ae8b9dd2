"""Ids and attribute names."""

from __future__ import annotations

import time

import pytest

from gramian.domain import names
from gramian.errors import InvalidRequest


@pytest.mark.parametrize("text", ["a", "_", "0", "nh_test_admin", "a.b@c+d-e", "x" * 128])
def test_check_id_plain_text_is_returned(text: str) -> None:
    """What the contract's samples and mail addresses need."""
    assert names.check_id("pid", text) == text


@pytest.mark.parametrize(
    "text", ["", "-a", ".", "..", "+a", "@a", "a b", "a/b", "a\n", "a\x00", "é", "a%20", "x" * 129, "٣", "a;b", 'a"b']
)
def test_check_id_other_text_is_refused_by_kind(text: str) -> None:
    """Nothing that means something in a path, a query, a log or a file name."""
    with pytest.raises(InvalidRequest, match=r"^pid must be 1 to 128"):
        names.check_id("pid", text)


def test_check_attribute_names_are_normalised() -> None:
    """Two spellings of one name are one name."""
    assert names.check_attribute_names(["Gro\u0308\u00dfe", "flowertype$versicolor"]) == (
        "Gr\u00f6\u00dfe",
        "flowertype$versicolor",
    )
    with pytest.raises(InvalidRequest, match="appears twice"):
        names.check_attribute_names(["o\u0308", "\u00f6"])


@pytest.mark.parametrize("name", ["", "a\tb", "a\n", "\x7f", "\x85", "\ud800", "x" * 257, "\u0958" * 129])
def test_check_attribute_names_impossible_name_is_refused(name: str) -> None:
    """Empty, control characters, half characters, too long before or after normalising."""
    with pytest.raises(InvalidRequest, match="attribute name"):
        names.check_attribute_names(["a", name])


@pytest.mark.parametrize("count", [0, names.MAX_ATTRIBUTES + 1])
def test_check_attribute_names_count_is_bounded(count: int) -> None:
    """At least one, at most 10,000."""
    with pytest.raises(InvalidRequest, match="there must be 1 to 10000"):
        names.check_attribute_names([f"a{i}" for i in range(count)])
    assert len(names.check_attribute_names([f"a{i}" for i in range(names.MAX_ATTRIBUTES)])) == names.MAX_ATTRIBUTES


def test_attribute_name_long_combining_sequence_is_refused_quickly() -> None:
    """Normalising a million combining marks would take minutes."""
    started = time.perf_counter()
    with pytest.raises(InvalidRequest, match="longer than 256"):
        names.attribute_name("a" + "\u0301\u0316" * 500_000)
    assert time.perf_counter() - started < 1
