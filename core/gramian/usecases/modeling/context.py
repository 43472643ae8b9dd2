"""The contract's MLContext: which attributes a model is of, by index or by name."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gramian.domain import jsonio, typed
from gramian.errors import InvalidRequest
from gramian.usecases.records import Attributes


class MLContext(msgspec.Struct, frozen=True, rename="camel"):
    """Indexes (as text or number) and names are alternatives; empty lists equal absent ones."""

    targets: list[str | int] = []
    input_attributes: list[str | int] = []
    input_attribute_names: list[str] = []
    target_attribute_names: list[str] = []
    extra_parameters: dict[str, str | int | float | bool | None] = {}


def parse(body: bytes) -> MLContext:
    """Raises InvalidRequest."""
    if not body:
        return MLContext()
    value = jsonio.loads(body)
    if isinstance(value, Mapping):
        # A null equals an absent key, which the contract's own samples use both ways.
        value = {key: item for key, item in value.items() if item is not None}
    try:
        return typed.convert(value, MLContext)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"the body is not an MLContext: {error}") from None


def target(context: MLContext, known: Attributes) -> str:
    """The one target's name. Raises InvalidRequest unless exactly one is given."""
    names = _names(context.targets, context.target_attribute_names, known, "targets")
    if len(names) != 1:
        raise InvalidRequest(f"give exactly one target (targets or targetAttributeNames), not {len(names)}")
    return names[0]


def inputs(context: MLContext, known: Attributes, target: str) -> list[str]:
    """The inputs' names; all attributes but the target if none are given. Raises InvalidRequest."""
    names = _names(context.input_attributes, context.input_attribute_names, known, "inputAttributes")
    return names or [name for name in known.names if name != target]


def _names(indexes: list[str | int], names: list[str], known: Attributes, key: str) -> list[str]:
    for name in names:
        if name not in known.names:
            raise InvalidRequest(f"the project has no attribute '{name[:80]}'")
    return names or [_by_index(index, known, key) for index in indexes]


def _by_index(index: str | int, known: Attributes, key: str) -> str:
    text = str(index).strip()
    if text.isascii() and text.isdigit() and len(text) < 8 and int(text) < len(known.names):
        return known.names[int(text)]
    if text in known.names:
        return text
    raise InvalidRequest(
        f"{key}: the project has no attribute with index '{text[:40]}', only 0 to {len(known.names) - 1}"
    )
