"""Types of fields that several messages have."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

# A bare `$` lets a line feed follow, and ids become subjects of the transport.
HexId: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}(?!\n)$")]
HexKey: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}(?!\n)$")]
HexKeyOrNone: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?(?!\n)$")]
HexSignature: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{128}(?!\n)$")]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
