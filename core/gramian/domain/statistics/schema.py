"""The attributes of a project in the canonical order that arrays, snapshots and digests use.

Imports no numpy: federation functions compare schemas without touching statistics.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from gramian.domain.canonical import canonical_json


class Schema(msgspec.Struct, frozen=True):
    """Canonical attributes: the first `continuous` are type C, the others B, each part by UTF-8 bytes of the name.

    `groups[i]` is g(i), the source column of attribute i: attributes of one group are missing together
    (all one-hot columns of one category share it). Groups are numbered by first appearance.
    """

    names: tuple[str, ...]
    continuous: int
    groups: tuple[int, ...]

    @classmethod
    def of(cls, attributes: Iterable[tuple[str, str]]) -> Schema:
        """Order (name, type) pairs, type `C` or `B`, each its own mask group."""
        ordered = sorted(attributes, key=lambda pair: (pair[1] != "C", pair[0].encode()))
        names = tuple(name for name, _ in ordered)
        return cls(names, sum(kind == "C" for _, kind in ordered), tuple(range(len(names))))

    @property
    def size(self) -> int:
        """Number of attributes p."""
        return len(self.names)

    @property
    def types(self) -> str:
        """One letter per attribute."""
        return "C" * self.continuous + "B" * (self.size - self.continuous)

    def to_json(self) -> dict[str, object]:
        return {"groups": list(self.groups), "names": list(self.names), "types": self.types}

    @classmethod
    def from_json(cls, value: dict[str, object]) -> Schema:
        """Raises ValueError for anything but the canonical form of a schema."""
        names, types, groups = value.get("names"), value.get("types"), value.get("groups")
        if (
            set(value) != {"names", "types", "groups"}
            or not isinstance(names, list)
            or not all(isinstance(name, str) for name in names)
            or not isinstance(types, str)
            or not isinstance(groups, list)
            or not all(type(group) is int for group in groups)
        ):
            raise ValueError("not a schema")
        schema = cls(tuple(names), types.count("C"), tuple(groups))
        schema.check(types)
        return schema

    def check(self, types: str) -> None:
        """Raise ValueError unless the canonical order, unique names and group numbering hold."""
        keys = [name.encode() for name in self.names]
        parts = (keys[: self.continuous], keys[self.continuous :])
        if types != self.types or len(set(keys)) != len(keys) or any(part != sorted(part) for part in parts):
            raise ValueError("schema is not in canonical order")
        seen = -1
        for group in self.groups:
            if not 0 <= group <= seen + 1:
                raise ValueError("mask groups are not numbered by first appearance")
            seen = max(seen, group)
        if len(self.groups) != self.size:
            raise ValueError("schema needs one mask group per attribute")

    def difference(self, expected: Schema) -> str:
        """In what this schema differs from another one that was expected, in words."""
        have = dict(zip(self.names, self.types, strict=True))
        want = dict(zip(expected.names, expected.types, strict=True))
        retyped = [f"{name} ({kind} for {want[name]})" for name, kind in have.items() if want.get(name, kind) != kind]
        parts = {
            "missing": [name for name in want if name not in have],
            "additional": [name for name in have if name not in want],
            "of another type": retyped,
        }
        words = "; ".join(f"{what} {_some(names)}" for what, names in parts.items() if names)
        return words or "the categories of a column"

    def digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON."""
        return hashlib.sha256(canonical_json(self.to_json())).hexdigest()


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
