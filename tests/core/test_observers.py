"""Observers hear what they are told, and nothing that they do reaches what they observe."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest

from gramian import events, observers
from gramian.observers import Observers
from gramian.settings import Settings

Install = Callable[..., None]

EVENTS: dict[str, Any] = {
    "gramian_snapshot_published": events.SnapshotPublished("c", "p", "f", "a", 3, 40, 9000),
    "gramian_snapshot_accepted": events.SnapshotAccepted("c", "p", "f", "b", 2, 50),
    "gramian_snapshot_refused": events.SnapshotRefused("c", "p", "f", "b", "its head is not signed"),
    "gramian_federated_updated": events.FederatedUpdated("c", "p", "f", 90, "d" * 64, "e" * 64),
    "gramian_model_built": events.ModelBuilt("c", "p", "m", "mlr", "federated", 90, 12),
}
HEAD = """
from gramian.hookspecs import Option, hookimpl
gramian_api = "1"
heard = []

@hookimpl
def gramian_options(kind, name):
    return [Option("prefix", default="x", help="What names begin with.")]
"""
HEARS_ALL = HEAD + "".join(
    f"\n@hookimpl\ndef {hook}(options, event):\n    heard.append((options['prefix'], event))\n" for hook in EVENTS
)
RAISES = """
from gramian.hookspecs import hookimpl
gramian_api = "1"

@hookimpl
def gramian_snapshot_published(event):
    raise ERROR("on purpose")
"""


@pytest.mark.parametrize("hook", EVENTS)
def test_each_event_reaches_its_hook_with_the_options(install: Install, hook: str) -> None:
    """Of every enabled observer, in order."""
    install("acme", HEARS_ALL, {"observer.acme": "acme"})
    Observers(Settings(observers=("acme",), environment={"GRAMIAN_ACME_PREFIX": "y"})).tell(EVENTS[hook])
    assert sys.modules["acme"].heard == [("y", EVENTS[hook])]
    assert observers.HOOKS[type(EVENTS[hook])] == hook


@pytest.mark.parametrize("error", ["RuntimeError", "SystemExit", "BaseException"])
def test_observer_that_raises_is_logged_and_the_next_hears(
    install: Install, caplog: pytest.LogCaptureFixture, error: str
) -> None:
    """With its name, for whoever has to mend it."""
    install("bad", RAISES.replace("ERROR", error), {"observer.bad": "bad"})
    install("acme", HEARS_ALL, {"observer.acme": "acme"})
    with caplog.at_level(logging.ERROR):
        Observers(Settings(observers=("bad", "acme"))).tell(EVENTS["gramian_snapshot_published"])
    assert "the observer bad failed at SnapshotPublished" in caplog.text
    assert len(sys.modules["acme"].heard) == 1


def test_observer_that_cannot_be_loaded_is_left_out(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    """A function must go on; `gramian serve` refuses it before."""
    install("bad", "import nothing_of_that_name", {"observer.bad": "bad"})
    install("acme", HEARS_ALL, {"observer.acme": "acme"})
    told = Observers(Settings(observers=("bad", "gone", "acme")))
    for _ in range(2):
        told.tell(EVENTS["gramian_model_built"])
    assert len(sys.modules["acme"].heard) == 2
    assert caplog.text.count("an observer is left out") == 2


@pytest.mark.parametrize(
    "code",
    [
        "raise SystemExit('x')",
        "raise BaseException('of an extension in another language')",
        HEAD.replace("[Option", "Option").replace('.")]', '.")') + "@hookimpl\ndef gramian_model_built(event): ...\n",
        HEAD.replace("return", "yield") + "@hookimpl\ndef gramian_model_built(event): ...\n",
        HEAD.replace("return", "raise SystemExit") + "@hookimpl\ndef gramian_model_built(event): ...\n",
        HEAD.replace("return", "raise BaseException") + "@hookimpl\ndef gramian_model_built(event): ...\n",
        HEAD + "@hookimpl\nasync def gramian_model_built(event): ...\n",
        HEAD + "@hookimpl\ndef gramain_model_built(event): ...\n",
    ],
)
def test_observer_that_is_wrong_in_any_way_is_left_out_and_the_next_hears(
    install: Install, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    """Functions call no `plugins.check` before: whatever loading comes upon is logged with the observer's name."""
    install("bad", code, {"observer.bad": "bad"})
    install("acme", HEARS_ALL, {"observer.acme": "acme"})
    with caplog.at_level(logging.ERROR):
        Observers(Settings(observers=("bad", "acme"))).tell(EVENTS["gramian_model_built"])
    assert len(sys.modules["acme"].heard) == 1
    (logged,) = [record.getMessage() for record in caplog.records]
    assert "an observer is left out" in logged
    assert "bad" in logged


def test_interrupt_from_the_keyboard_passes_through_an_observer(install: Install) -> None:
    """Whoever stops a program must not be refused by a plugin."""
    install("bad", RAISES.replace("ERROR", "KeyboardInterrupt"), {"observer.bad": "bad"})
    install("worse", "raise KeyboardInterrupt", {"observer.worse": "worse"})
    for name in ("bad", "worse"):
        with pytest.raises(KeyboardInterrupt):
            Observers(Settings(observers=(name,))).tell(EVENTS["gramian_snapshot_published"])


def test_observer_that_is_not_enabled_is_not_imported(install: Install) -> None:
    """Being installed is not enough: an observer sees who works with whom."""
    install("acme", HEARS_ALL, {"observer.acme": "acme"})
    Observers(Settings()).tell(EVENTS["gramian_model_built"])
    assert "acme" not in sys.modules
