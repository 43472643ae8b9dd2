"""What an admin's answer to a redemption may hold: anything, until it is checked."""

from __future__ import annotations

import pytest

from gramian.errors import Refused
from gramian.usecases.federation import outgoing

MALFORMED = [
    b"",
    b"[]",
    b'{"values":{}}',
    b'{"values":{"a":1}}',
    b'{"values":{"a":"not base64"}}',
    b'{"values":{"a":"\xff"}}',
    b'{"values":{},"statusString":"\xff"}',
    b'{"values":{"a":' + b"[" * 5000,
]


@pytest.mark.parametrize("reply", MALFORMED, ids=lambda reply: repr(reply[:30]))
def test_malformed_answer_is_refused(reply: bytes) -> None:
    """A wrong address or a hostile admin costs the joiner a clear answer, not an error of its server."""
    with pytest.raises(Refused):
        outgoing.entity(reply, "a")


@pytest.mark.parametrize("reply", MALFORMED, ids=lambda reply: repr(reply[:30]))
def test_malformed_refusal_is_told_in_own_words(reply: bytes) -> None:
    """Nothing of an answer is shown but what is known beforehand."""
    assert outgoing._known(reply, ["known"]).startswith("the address may be wrong")
