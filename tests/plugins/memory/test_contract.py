"""The transport within one process keeps the contract of all transports."""

from __future__ import annotations

import pytest

from gramian.errors import InvalidRequest, TransportFull
from gramian.testing import contract
from gramian.testing.transport import ALICE, MAX_BLOB_BYTES
from gramian_memory.transport import MemoryTransport


class TestMemoryTransport(contract("transport.memory", options={"memory_space": "contract"}, across_processes=False)):
    """A space of its own."""

    def test_two_transports_meet_in_a_space_of_one_name(self, link, fed_id: str) -> None:
        """Each node of a process has a transport of its own."""
        link.put_roster(fed_id, b"roster", expect=None)
        elsewhere = MemoryTransport().open({"memory_space": "contract"})
        assert elsewhere.cut(fed_id, []).roster.data == b"roster"

    def test_blobs_beyond_the_federations_room_do_not_fit(self, link, fed_id: str) -> None:
        """What is freed makes room again."""
        chunks = [b"x" * link.chunk_bytes] * (MAX_BLOB_BYTES // link.chunk_bytes)
        link.put_blob(fed_id, ALICE, "01", chunks)
        link.put_blob(fed_id, ALICE, "01", chunks)
        with pytest.raises(TransportFull, match="memory_max_bytes"):
            link.put_blob(fed_id, ALICE, "02", [b"x"])
        link.free_blob(fed_id, ALICE, "01", 1)
        link.put_blob(fed_id, ALICE, "02", [b"x"])


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"memory_space": ""}, "memory_space"),
        ({"memory_space": "a b"}, "memory_space"),
        ({"memory_space": "a", "memory_max_bytes": "many"}, "memory_max_bytes"),
        ({"memory_space": "a", "memory_max_bytes": "0"}, "memory_max_bytes"),
    ],
)
def test_bad_option_is_refused_by_name(options: dict[str, str], key: str) -> None:
    """And nothing is made up instead."""
    with pytest.raises(InvalidRequest, match=key):
        MemoryTransport().check_options(options)
