"""What reads bytes of strangers, and what it may say about them.

A harness is a few paths, each a function of the same bytes: as they come, or signed and sealed first, so that the fuzz
also reaches what lies behind a signature or a seal. A path returns what it read or raises one of ALLOWED.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import msgspec

from gramian.domain import crypto, frame, jsonio, sealing
from gramian.domain.canonical import canonical_json
from gramian.domain.protocol import generations, head, invitation, keys, nudge, redemption, roster
from gramian.domain.protocol.keys import PeerKeys
from gramian.domain.statistics import snapshot
from gramian.domain.statistics.checks import verify
from gramian.errors import InvalidRequest, Refused
from gramian.http.request import flat_map
from gramian.usecases.federation import outgoing
from gramian.usecases.federation.requests import text_of
from gramian.usecases.modeling import context
from gramian.usecases.records import Attributes

Path = Callable[[bytes], Any]
ALLOWED = (Refused, InvalidRequest)
MAX_INPUT_BYTES = 64 * 1024

SALT, NOW = b"s" * 32, 1_700_000_000
ADMIN = PeerKeys.derive(b"m" * 32, SALT, "c1", "p1")
FED_ID = keys.fed_id(ADMIN.ed, SALT)
GENERATION = b"g" * 32
KEK = keys.kek(GENERATION, FED_ID)
MEMBER = roster.Member(ADMIN.peer_id, "", ADMIN.ed.hex(), ADMIN.x.hex())
ROSTER = roster.Roster(
    FED_ID,
    SALT.hex(),
    1,
    "",
    NOW,
    ADMIN.ed.hex(),
    ADMIN.x.hex(),
    roster.Policy("m30", True, 2**30),
    0,
    [MEMBER],
    {ADMIN.peer_id: generations.ring(GENERATION, ADMIN.x, FED_ID)},
)

TID = invitation.token_id("FEDTOKEN" + "0" * 32)
INVITED = redemption.Keys.derive(b"i" * 32, TID, "c1", "p1")
JOINER = PeerKeys.derive(b"j" * 32, bytes.fromhex(TID), "c2", "p2")
REQUEST = b"the request that is answered"

KEY, PASSWORD = b"sixteen byte key", "password"
PLACE = {"method": "POST", "cid": "c1", "path": "/symetry/rest/c1/fedml/create"}
KNOWN = Attributes(["a", "b", "y"], "CBC")


def signed(label: str, data: bytes) -> bytes:
    return crypto.sign(ADMIN.signing, label, data) + data


def json_read(data: bytes) -> Any:
    """What is read can be written, and is then read as the same."""
    value = jsonio.loads(data)
    again = jsonio.dumps(value)
    assert jsonio.dumps(jsonio.loads(again)) == again
    return value


def head_read(message: bytes) -> Any:
    found = head.open_head(message, FED_ID, ADMIN.peer_id, ADMIN.ed)
    assert 1 <= found.chunks <= head.MAX_CHUNKS or found.state == "left"
    return head.unwrap_key(found, KEK) if found.wrap else found


def roster_read(message: bytes) -> Any:
    found = roster.open_roster(message, FED_ID)
    for member in found.members:
        assert bytes.fromhex(member.tid).hex() == member.tid
    key = generations.open_key(found, ADMIN.peer_id, ADMIN.boxing, found.gen)
    return roster.open_schema(found.policy, FED_ID, keys.kek(key, FED_ID))


def request_read(body: bytes) -> Any:
    return redemption.open_application(redemption.parse_request(body), INVITED)


def application_read(plain: bytes) -> Any:
    sealed = crypto.encode(crypto.seal(INVITED.request, plain, INVITED.aad()))
    found = redemption.open_application(redemption.Request(redemption.VERSION, TID, sealed), INVITED)
    return redemption.box_grant(redemption.Grant({}), bytes.fromhex(found.x), FED_ID)


def welcome_read(plain: bytes) -> Any:
    reply = crypto.seal(INVITED.reply, plain, hashlib.sha256(REQUEST).digest())
    found = redemption.open_welcome(INVITED, REQUEST, reply)
    roster.open_roster(crypto.decode(found.roster), FED_ID)
    return redemption.open_grant(found.box, JOINER, FED_ID)


def grant_read(plain: bytes) -> Any:
    return redemption.open_grant(
        crypto.encode(crypto.box(JOINER.x, plain, label="grant", fed_id=FED_ID)), JOINER, FED_ID
    )


def snapshot_read(data: bytes) -> Any:
    found = snapshot.decode(data)
    verify(found)
    return found


def metadata_read(text: bytes) -> Any:
    """The metadata in an otherwise empty file."""
    header = canonical_json({"__metadata__": {snapshot.METADATA_KEY: text.decode("latin-1")}})
    return snapshot.read_extra(len(header).to_bytes(8, "little") + header)


def body_read(text: bytes) -> Any:
    return flat_map(sealing.open_body(text, KEY, **PLACE)[0])


def frame_read(body: bytes) -> Any:
    found = frame.decode(body)
    return found.matrix([name for name, _ in found.numeric()])


def numbers_read(body: bytes) -> Any:
    """As a prediction reads it: some columns, whatever their types."""
    found = frame.decode(body)
    return found.as_numbers().matrix(found.names[:2])


def context_read(body: bytes) -> Any:
    found = context.parse(body)
    return context.inputs(found, KNOWN, context.target(found, KNOWN))


def invitation_read(plain: bytes) -> Any:
    """As a join reads it."""
    named = invitation.with_current_names(flat_map(plain))
    return invitation.parse({key: text_of(named, key) for key in named})


HARNESSES: dict[str, tuple[Path, ...]] = {
    "json": (json_read, lambda data: jsonio.loads(data, unique_keys=True), flat_map),
    "envelope": (lambda data: outgoing.entity(data, "fedRedemption"),),
    "head": (head_read, lambda data: head_read(signed(head.LABEL, data))),
    "roster": (roster_read, lambda data: roster_read(signed(roster.LABEL, data))),
    "nudge": (
        lambda data: nudge.open_nudge(data, ROSTER, NOW),
        lambda data: nudge.open_nudge(signed(nudge.LABEL, data), ROSTER, NOW),
    ),
    "redemption": (request_read, application_read, welcome_read, grant_read),
    "snapshot": (snapshot_read, lambda data: snapshot.decode(data, local=True), snapshot.read_extra, metadata_read),
    "sealed": (
        body_read,
        lambda data: body_read(b"gramian.v2." + base64.urlsafe_b64encode(data).rstrip(b"=")),
        lambda data: body_read(base64.b64encode(data)),
        lambda data: body_read(sealing.seal_v1(data, KEY).encode()),
        lambda data: sealing.open_invitation_v1(data, PASSWORD),
    ),
    "invitation": (invitation_read,),
    "frame": (frame_read, numbers_read),
    "context": (context_read,),
}


def attempt(name: str, data: bytes) -> int:
    """Run every path of a harness on `data`; how many read it. What they say of the others is fit to be sent."""
    read = 0
    for path in HARNESSES[name]:
        try:
            path(data)
            read += 1
        except ALLOWED as error:
            msgspec.json.encode(str(error))
    return read
