"""Valid examples for every harness. `python tests/fuzz/seeds.py` writes them into tests/fuzz/corpus."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Mapping
from itertools import count
from pathlib import Path

import msgspec
import numpy as np
from harnesses import (
    ADMIN,
    FED_ID,
    GENERATION,
    INVITED,
    JOINER,
    KEK,
    KEY,
    NOW,
    PASSWORD,
    PLACE,
    ROSTER,
    TID,
)

from gramian.domain import crypto, sealing
from gramian.domain.canonical import canonical_json, join
from gramian.domain.protocol import generations, head, invitation, keys, nudge, redemption, roster
from gramian.domain.sealing import Scheme
from gramian.domain.statistics import snapshot
from gramian.domain.statistics.kernel import accumulate
from gramian.domain.statistics.schema import Schema

CORPUS = Path(__file__).parent / "corpus"
FRAME = {
    "attributeNames": ["a", "b", "x"],
    "attributeTypes": ["C", "B", "X"],
    "data": [["1.5", "1", "w"], ["", "0", ""]],
}


def plain(value: msgspec.Struct) -> bytes:
    return canonical_json(msgspec.to_builtins(value))


def json_seeds() -> dict[str, bytes]:
    return {
        "scalars": b'{"a":[null,true,false,-0.5e-3,"\\u00e9\\ud83d\\ude00\\\\"]}',
        "lenient": b'{"a":[1,NaN,-Infinity,],"values":[{}],}',
        "values": b'{"values":[{"pid":"p","n":3,"on":true}]}',
        "nested": b"[" * 20 + b"]" * 20,
    }


def envelope_seeds() -> dict[str, bytes]:
    return {"redemption": b'{"statusCode":"OK","statusString":"OK","values":{"fedRedemption":"cmVwbHk="}}'}


def head_seeds() -> dict[str, bytes]:
    wrap = head.wrap_key(b"c" * 32, KEK, fed_id=FED_ID, peer_id=ADMIN.peer_id, epoch=5, gen=0, blob_id="b" * 32)
    clear = head.Head(
        FED_ID, ADMIN.peer_id, 5, 1, 0, "b" * 32, 2, 2**15, 2**15 + 50, "a" * 64, "c" * 64, "d" * 64, "", "data", NOW
    )
    left = msgspec.structs.replace(clear, state="left", chunks=0, size=0)
    encrypted = msgspec.structs.replace(clear, wrap=wrap)
    return {
        "signed": head.pack(clear, ADMIN.signing),
        "clear": plain(clear),
        "left": plain(left),
        "encrypted": plain(encrypted),
    }


def roster_seeds() -> dict[str, bytes]:
    schema = Schema.of([("a", "C"), ("b", "B")])
    sealed = msgspec.structs.replace(ROSTER.policy, schema=roster.seal_schema(schema, ROSTER.policy, FED_ID, KEK))
    clear_policy = roster.Policy("h3", False, 2**20)
    clear = msgspec.structs.replace(clear_policy, schema=roster.seal_schema(schema, clear_policy, FED_ID, KEK))
    newer = b"n" * 32
    rotated = msgspec.structs.replace(
        ROSTER,
        v=2,
        prev_sha="0" * 64,
        gen=1,
        members=[*ROSTER.members, roster.Member(JOINER.peer_id, TID, JOINER.ed.hex(), JOINER.x.hex(), "evicted")],
        rings={ADMIN.peer_id: generations.ring(newer, ADMIN.x, FED_ID)},
        chain=[generations.link(newer, GENERATION, 1, FED_ID)],
        policy=roster.resealed(sealed, FED_ID, KEK, keys.kek(newer, FED_ID)),
    )
    return {
        "signed": roster.pack(ROSTER, ADMIN.signing),
        "sealed-schema": plain(msgspec.structs.replace(ROSTER, policy=sealed)),
        "clear-schema": plain(msgspec.structs.replace(ROSTER, policy=clear)),
        "rotated": plain(rotated),
    }


def nudge_seeds() -> dict[str, bytes]:
    return {
        "signed": nudge.pack(nudge.Nudge(FED_ID, ADMIN.peer_id, int(NOW), 7), ADMIN.signing),
        "plain": plain(nudge.Nudge(FED_ID, ADMIN.peer_id, NOW)),
    }


def redemption_seeds() -> dict[str, bytes]:
    signature = crypto.sign(JOINER.signing, redemption.LABEL, join(TID, JOINER.ed, JOINER.x))
    grant = redemption.Grant({"nats_sec_user": "peer"})
    message = crypto.encode(roster.pack(ROSTER, ADMIN.signing))
    box = redemption.box_grant(grant, JOINER.x, FED_ID)
    return {
        "request": redemption.apply(INVITED, JOINER),
        "application": plain(redemption.Application(JOINER.ed.hex(), JOINER.x.hex(), crypto.encode(signature))),
        "welcome": plain(redemption.Welcome(message, {ADMIN.peer_id: 5}, box)),
        "grant": plain(grant),
    }


def snapshot_seeds() -> dict[str, bytes]:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(20, 3))
    rows[:, 2] = rng.integers(0, 2, 20)
    gappy = rows.copy()
    gappy[rng.random(rows.shape) < 0.3] = np.nan
    three = Schema(("a", "b", "s"), 2, (0, 1, 2))
    category = Schema(("a", "t$0", "t$1"), 1, (0, 1, 1))
    categories = np.column_stack([rows[:, 0], rows[:, 2], 1 - rows[:, 2]])
    full = accumulate(rows, three)
    data = snapshot.encode(full, extra={"note": ["x", 1]})
    size = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + size])["__metadata__"][snapshot.METADATA_KEY]
    return {
        "full": data,
        "local": snapshot.encode(full, local=True),
        "gaps": snapshot.encode(accumulate(gappy, three)),
        "categories": snapshot.encode(accumulate(categories, category)),
        "no-rows": snapshot.encode(accumulate(rows[:0], three)),
        "metadata": metadata.encode(),
    }


def sealed_seeds() -> dict[str, bytes]:
    numbers = count()

    def random(size: int) -> bytes:
        return bytes([next(numbers)]) * size

    body = b'{"fed_name":"study","sync_sched":"m30"}'
    v1, v2 = (sealing.seal_body(body, KEY, scheme, random, **PLACE) for scheme in (Scheme.V1, Scheme.V2))
    digits = v2.removeprefix("gramian.v2.")
    return {
        "v1": v1.encode(),
        "v1-bytes": base64.b64decode(v1),
        "v2": v2.encode(),
        "v2-bytes": base64.urlsafe_b64decode(digits + "=" * (-len(digits) % 4)),
        "invitation": sealing.seal_invitation_v1(body, PASSWORD).encode(),
        "plain": body,
    }


def invitation_seeds() -> dict[str, bytes]:
    made = invitation.Invitation(
        FED_ID,
        "study",
        "m30",
        invitation.redemption_url("http://charm:8080", "c1", "p1"),
        "FEDTOKEN" + "0" * 32,
        b"i" * 32,
        {"nats_hosts": "nats://localhost:4222"},
    )
    older = {key.replace("fed_", "group_"): value for key, value in made.to_map().items()}
    return {"current": canonical_json(made.to_map()), "older-names": canonical_json(older)}


def frame_seeds() -> dict[str, bytes]:
    return {
        "text": canonical_json(FRAME),
        "numbers": canonical_json({**FRAME, "data": [[1.5, 1, None], [-2e-3, False, "v"]], "errorHandling": 1}),
        "odd-numbers": canonical_json({**FRAME, "data": [[" +1. ", "1", ""], ["NaN", "0.0", ""], [".5E3", "1e0", ""]]}),
        "lenient": b'{"attributeNames":["a"],"attributeTypes":["c"],"data":[["1"],[NaN],],}',
    }


def context_seeds() -> dict[str, bytes]:
    return {
        "names": b'{"targetAttributeNames":["y"],"inputAttributeNames":["a","b"]}',
        "indexes": b'{"targets":["2"],"inputAttributes":[0,"1"],"extraParameters":{"alpha":"0.5","n":null}}',
        "nulls": b'{"targets":[2],"inputAttributes":null}',
    }


def all_seeds() -> Mapping[str, dict[str, bytes]]:
    return {
        "json": json_seeds(),
        "envelope": envelope_seeds(),
        "head": head_seeds(),
        "roster": roster_seeds(),
        "nudge": nudge_seeds(),
        "redemption": redemption_seeds(),
        "snapshot": snapshot_seeds(),
        "sealed": sealed_seeds(),
        "invitation": invitation_seeds(),
        "frame": frame_seeds(),
        "context": context_seeds(),
    }


def write() -> None:
    for name, seeds in all_seeds().items():
        shutil.rmtree(CORPUS / name, ignore_errors=True)
        (CORPUS / name).mkdir(parents=True)
        for seed, data in seeds.items():
            (CORPUS / name / seed).write_bytes(data)


if __name__ == "__main__":
    write()
