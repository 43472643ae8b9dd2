"""Contract of observers. Subclass, name the class `Test...`, and provide the fixture.

    class TestMyObserver(ObserverContract):
        @pytest.fixture
        def observed(self): return "acme", Settings(...)   # the observer's name, and settings with its options

Gramian survives an observer that breaks this contract; the contract is what makes it useful.
"""

from __future__ import annotations

import logging
import time

import pytest

from gramian import events, plugins
from gramian.observers import HOOKS
from gramian.settings import Settings
from gramian.testing.state import race

EVENTS: tuple[events.Event, ...] = (
    events.SnapshotPublished("contract", "study", "f" * 32, "a" * 32, 3, 40, 9_000),
    events.SnapshotAccepted("contract", "study", "f" * 32, "b" * 32, 1_800_000_000_000, 10**9),
    events.SnapshotRefused("contract", "p.-_@+", "f" * 32, "b" * 32, 'its head is "forged";\té\U0001f600 %s {x} \\'),
    events.FederatedUpdated("contract", "study", "f" * 32, 0, "", ""),
    events.FederatedUpdated("contract", "study", "f" * 32, 90, "d" * 64, "e" * 64),
    events.ModelBuilt("contract", "study", "model", "mlr", "federated", 90, 12),
)


class ObserverContract:
    """What every observer does. See the module for how to use it."""

    limit_s = 0.1
    """How long it may hold up a pulse, on average."""

    @pytest.fixture
    def observed(self) -> tuple[str, Settings]:
        raise NotImplementedError("provide `observed`: the observer's name and settings")

    def test_every_event_is_taken_without_an_error(self, observed: tuple[str, Settings]) -> None:
        """Odd letters and large numbers too."""
        for event in EVENTS:
            _tell(observed, event)

    def test_events_from_many_threads_are_taken(self, observed: tuple[str, Settings]) -> None:
        """Projects pulse at the same time."""
        race(8, lambda number: _tell(observed, EVENTS[number % len(EVENTS)]))

    def test_observer_is_quick(self, observed: tuple[str, Settings]) -> None:
        """What takes longer belongs to a thread of its own."""
        _tell(observed, EVENTS[0])
        started = time.monotonic()
        for _ in range(5):
            for event in EVENTS:
                _tell(observed, event)
        assert (time.monotonic() - started) / (5 * len(EVENTS)) < self.limit_s

    def test_observer_leaves_logging_as_it_is(self, observed: tuple[str, Settings]) -> None:
        """The application decides what is logged where."""
        root = logging.getLogger()
        before = (root.level, list(root.handlers), logging.root.manager.disable)
        for event in EVENTS:
            _tell(observed, event)
        assert (root.level, list(root.handlers), logging.root.manager.disable) == before


def _tell(observed: tuple[str, Settings], event: events.Event) -> None:
    """As a node does, only that errors come out."""
    name, settings = observed
    manager, values = plugins.opened("observer", name, settings)
    getattr(manager.hook, HOOKS[type(event)])(settings=settings, options=values, event=event)
