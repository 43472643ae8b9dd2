"""Nodes on these stores, two instances of one as two functions would be: what users do at once."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from contextlib import ExitStack

import numpy as np
import pytest

from gramian import node as nodes
from gramian.domain import frame as frames
from gramian.domain.protocol import keys, redemption
from gramian.errors import InvalidRequest
from gramian.settings import Settings
from gramian.testing.state import race
from gramian.usecases.federation import found, invite, membership
from gramian.usecases.projects import folding, ledger, lifecycle, rows

JOINERS = 64
LEARNS = 200


@pytest.fixture(params=["emulator", pytest.param("dynamodb_local", marks=pytest.mark.slow)])
def node(request, emulator, bucket, make_client, make_table, tmp_path, monkeypatch):
    """Gives one instance of a node or the other, by number. Blobs are on the emulator in any case."""
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    url = emulator.url if request.param == "emulator" else request.getfixturevalue("dynamodb_local")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", url)
    table = make_table(make_client("dynamodb", url))
    settings = Settings(
        home=tmp_path / "home",
        transports=("memory",),
        state="dynamodb",
        tokens="dynamodb",
        blobs="s3",
        environment={"GRAMIAN_DYNAMODB_TABLE": table, "GRAMIAN_S3_BUCKET": bucket},
    )
    with ExitStack() as stack:
        instances = [stack.enter_context(nodes.opened(settings)) for _ in range(2)]
        yield lambda number=0: instances[number % 2]


def frame(batch):
    cells = [[repr(float(cell)) for cell in row] for row in batch]
    return frames.decode(
        json.dumps({"attributeNames": ["x", "y"], "attributeTypes": ["C", "C"], "data": cells}).encode()
    )


def test_learns_at_once_all_count(node):
    """Two hundred, sixty-four at a time, over both instances: every row that was acknowledged, and folded once."""
    project = lifecycle.create(node(), "c", "p", kind="cpu", persist=True, options={})
    batches = np.random.default_rng(0).normal(size=(LEARNS, 5, 2))
    wires = [frame(batch) for batch in batches]
    share = -(-LEARNS // JOINERS)

    def learn(number):
        for wire in wires[number * share : (number + 1) * share]:
            rows.learn(node(number), project, wire)

    race(JOINERS, learn)
    assert ledger.read(node(), project).rows == LEARNS * 5
    total = folding.moments(node(1), project)
    assert total.n == LEARNS * 5
    assert len(ledger.read(node(), project).deltas) < LEARNS


def test_invitation_redeemed_at_once_has_one_winner(node):
    """Sixty-four joiners, each with keys of its own, over both instances, five times."""
    found.create(
        node(), "c", "study", {"fed_name": "s", "sync_sched": "d1", "memory_space": secrets.token_hex(8)}, persist=True
    )
    for _ in range(5):
        made = invite.invite(node(), "c", "study", {}, default_host="http://127.0.0.1:1")
        sealed = redemption.Keys.derive(made.secret, made.tid, "c", "study")

        def redeem(number, sealed=sealed):
            own = keys.PeerKeys.derive(secrets.token_bytes(32), bytes.fromhex(sealed.tid), "j", "j")
            try:
                invite.redeem(node(number), "c", "study", redemption.apply(sealed, own), f"joiner{number}")
            except InvalidRequest as error:
                return str(error)
            return "welcome"

        assert Counter(race(JOINERS, redeem)) == {"welcome": 1, invite.USED: JOINERS - 1}
    assert len(membership.admin(node(1), "c", "study").roster.members) == 1 + 5
