"""The contract's JSON dialect (section 2.1): strict JSON by msgspec, its few leniencies by a careful second reader.

Lenient are trailing commas and the bare words Infinity, -Infinity and NaN. Strings, numbers and nesting stay strict.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import msgspec

from gramian.errors import InvalidRequest

MAX_DEPTH = 64
MAX_LENIENT_BYTES = 4 * 2**20
"""The second reader is plain Python and some 50 times slower, so larger inputs must be strict JSON."""
MAX_INTEGER_DIGITS = 400
"""More than any double has; reading an integer takes quadratic time."""

_STRING_OR_FILLING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[^\[\]{}"]+', re.DOTALL)
_TOKEN = re.compile(
    r"""[ \t\n\r]*(?:
        (?P<mark>[\[\]{},:"])
      | (?P<number>-?(?:0|[1-9][0-9]*)(?P<inexact>(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?))
      | (?P<word>-?Infinity|NaN|true|false|null)
    )""",
    re.VERBOSE,
)
_WORDS = {
    "true": True,
    "false": False,
    "null": None,
    "NaN": math.nan,
    "Infinity": math.inf,
    "-Infinity": -math.inf,
}
_STRINGS = json.JSONDecoder()


def loads(data: bytes, *, max_depth: int = MAX_DEPTH, unique_keys: bool = False) -> Any:
    """Read one JSON value. Raises InvalidRequest with the place of the fault.

    The last of repeated keys counts, as everywhere; `unique_keys` refuses them (for maps that decide on access).
    """
    if unique_keys:
        return _read_leniently(data, max_depth, unique_keys)
    try:
        value = msgspec.json.decode(data)
    except RecursionError:
        raise _too_deep(max_depth) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if len(data) > MAX_LENIENT_BYTES:
            raise InvalidRequest(f"the body is not strict JSON, as large ones must be: {error}") from None
        return _read_leniently(data, max_depth, unique_keys)
    _check_depth(data, max_depth)
    return value


def dumps(value: Any, *, strict: bool = False) -> bytes:
    """Compact UTF-8 JSON of plain Python values; non-finite doubles as the contract has them, or null if `strict`."""
    encoded = msgspec.json.encode(value)
    # msgspec writes null for them, so only an output with a null can hold one, and needs the slower encoder.
    if strict or b"null" not in encoded:
        return encoded
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _check_depth(data: bytes, max_depth: int) -> None:
    """Count brackets outside strings; `data` is valid JSON, so that every string ends."""
    if data.count(b"[") + data.count(b"{") <= max_depth:
        return
    depth = 0
    for bracket in _STRING_OR_FILLING.sub(b"", data):
        depth += 1 if bracket in b"[{" else -1
        if depth > max_depth:
            raise _too_deep(max_depth)


def _too_deep(max_depth: int) -> InvalidRequest:
    return InvalidRequest(f"JSON is nested deeper than {max_depth} levels")


def _read_leniently(data: bytes, max_depth: int, unique_keys: bool) -> Any:
    if len(data) > MAX_LENIENT_BYTES:
        raise InvalidRequest(f"JSON of this kind may have at most {MAX_LENIENT_BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"JSON is not UTF-8 at byte {error.start}") from None
    return _Reader(text, max_depth, unique_keys).read()


class _Container:
    """An array or object that is being read; `key` is the one whose value comes next."""

    __slots__ = ("closer", "key", "value")

    def __init__(self, opener: str) -> None:
        self.value: list[Any] | dict[str, Any] = [] if opener == "[" else {}
        self.closer = "]" if opener == "[" else "}"
        self.key = ""

    def store(self, value: Any) -> None:
        if isinstance(self.value, list):
            self.value.append(value)
        else:
            self.value[self.key] = value


class _Reader:
    """A reader with its own stack instead of recursion."""

    def __init__(self, text: str, max_depth: int, unique_keys: bool) -> None:
        self.text = text
        self.at = 0
        self.max_depth = max_depth
        self.unique_keys = unique_keys
        self.open: list[_Container] = []

    def read(self) -> Any:
        while True:
            value, opened = self._value()
            if opened:
                if self._goes_on(first=True):
                    continue
                value = self.open.pop().value
            while self.open:
                self.open[-1].store(value)
                if self._goes_on(first=False):
                    break
                value = self.open.pop().value
            else:
                if self.text[self.at :].strip(" \t\n\r"):
                    raise self._fault("more text after the end")
                return value

    def _value(self) -> tuple[Any, bool]:
        """Read a scalar, or only the opening bracket of a container (and then True)."""
        token = self._token("a value")
        if word := token["word"]:
            return _WORDS[word], False
        if number := token["number"]:
            return self._number(number, inexact=bool(token["inexact"])), False
        mark = token["mark"]
        if mark == '"':
            return self._string(), False
        if mark not in ("[", "{"):
            raise self._fault("expected a value", token.start("mark"))
        if len(self.open) == self.max_depth:
            raise _too_deep(self.max_depth)
        self.open.append(_Container(mark))
        return None, True

    def _goes_on(self, *, first: bool) -> bool:
        """Move to the next value of the innermost container; False if it closes, also after a trailing comma."""
        closer = self.open[-1].closer
        if not first:
            mark = self._mark(f", or {closer}")
            if mark == closer:
                return False
            if mark != ",":
                raise self._fault(f"expected , or {closer}", self.at - 1)
        before = self.at
        if self._token("a value or the end")["mark"] == closer:
            return False
        self.at = before
        if closer == "}":
            self._key()
        return True

    def _key(self) -> None:
        if self._mark("a key") != '"':
            raise self._fault("expected a key in double quotes", self.at - 1)
        start, container = self.at, self.open[-1]
        container.key = self._string()
        if self.unique_keys and container.key in container.value:
            raise self._fault("a key appears twice", start)
        if self._mark(":") != ":":
            raise self._fault("expected :", self.at - 1)

    def _token(self, expected: str) -> re.Match[str]:
        token = _TOKEN.match(self.text, self.at)
        if token is None:
            raise self._fault(f"expected {expected}")
        self.at = token.end()
        return token

    def _mark(self, expected: str) -> str | None:
        return self._token(expected)["mark"]

    def _string(self) -> str:
        """Read on after the opening quote."""
        start = self.at - 1
        try:
            value, self.at = _STRINGS.raw_decode(self.text, start)
            value.encode()
        except json.JSONDecodeError as error:
            raise self._fault("a string is malformed", error.pos) from None
        except UnicodeEncodeError:
            raise self._fault("a string holds half a surrogate pair", start) from None
        return str(value)

    def _number(self, text: str, *, inexact: bool) -> int | float:
        if inexact:
            value = float(text)
            if not math.isinf(value):
                return value
        elif len(text) <= MAX_INTEGER_DIGITS:
            return int(text)
        raise self._fault("a number is out of range", self.at - len(text))

    def _fault(self, what: str, at: int | None = None) -> InvalidRequest:
        return InvalidRequest(f"JSON is malformed at character {self.at if at is None else at}: {what}")
