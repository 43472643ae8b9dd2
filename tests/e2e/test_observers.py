"""What observers hear of a federation's life, and that one which raises changes nothing of it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from gramian import plugins
from gramian.events import SnapshotRefused
from gramian.usecases.federation import membership

CODE = """
from gramian.hookspecs import hookimpl
gramian_api = "1"
heard = []

def hear(event):
    heard.append(event)
    raise RuntimeError("an observer of the worst kind")
"""
HOOKS = plugins.HOOKS["observer"]


@pytest.fixture
def observer(install: Callable[..., None]) -> None:
    """An installed observer that hears everything, and raises at everything."""
    code = CODE + "".join(f"\n@hookimpl\ndef {hook}(event):\n    hear(event)\n" for hook in HOOKS)
    install("loud", code, {"observer.loud": "loud"})


def enable(site: Any) -> None:
    object.__setattr__(site.node, "settings", dataclasses.replace(site.node.settings, observers=("loud",)))


def test_observers_hear_a_federations_life_and_cannot_stop_it(federate: Callable[..., Any], observer: None) -> None:
    """Published, accepted, refused, merged, built: each once per happening, with figures that fit."""
    federation = federate(2)
    for site in federation.sites:
        enable(site)
    rng = np.random.default_rng(4)
    names, types = ("x", "y"), ("C", "C")
    federation.learn(names, types, [rng.normal(size=(30, 2)), rng.normal(size=(50, 2))])
    federation.sync(3)
    federation.assert_converged(80)
    federation.admin.client.build("study", "m", target="y")

    heard = sys.modules["loud"].heard
    by_kind: dict[str, list[Any]] = {}
    for event in heard:
        by_kind.setdefault(type(event).__name__, []).append(event)
    assert sorted(event.rows for event in by_kind["SnapshotPublished"]) == [30, 50]
    assert sorted(event.rows for event in by_kind["SnapshotAccepted"]) == [30, 50]
    assert by_kind["FederatedUpdated"][-1].rows == 80
    assert by_kind["FederatedUpdated"][-1].digest == federation.params("fed_digest")[0]
    (built,) = by_kind["ModelBuilt"]
    assert (built.model_id, built.source, built.rows) == ("m", "federated", 80)
    assert "SnapshotRefused" not in by_kind
    assert {event.pid for event in heard} == {"study"}


def test_observers_hear_what_is_refused(federate: Callable[..., Any], observer: None) -> None:
    """Whose it is and why; the error log says the same."""
    federation = federate(2)
    enable(federation.admin)
    culprit = federation.sites[1]
    member = membership.load(culprit.node, culprit.name, "study")
    with closing(membership.connect(culprit.node, member)) as link:
        link.put_head(member.fed_id, member.peer_id, b"no head at all", expect=None)
    federation.admin.client.sync("study")
    (refused,) = [event for event in sys.modules["loud"].heard if type(event) is SnapshotRefused]
    assert refused.peer_id == member.peer_id
    assert refused.reason in federation.admin.client.error_log("study")[0]
