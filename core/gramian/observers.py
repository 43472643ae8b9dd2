"""Telling observer plugins what happened; none of them can break what it observes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property

import pluggy

from gramian import events, plugins
from gramian.errors import PluginError
from gramian.options import Options
from gramian.settings import Settings

log = logging.getLogger(__name__)

HOOKS = {
    events.SnapshotPublished: "gramian_snapshot_published",
    events.SnapshotAccepted: "gramian_snapshot_accepted",
    events.SnapshotRefused: "gramian_snapshot_refused",
    events.FederatedUpdated: "gramian_federated_updated",
    events.ModelBuilt: "gramian_model_built",
}
"""The hook that hears of each event."""


@dataclass(frozen=True, slots=True)
class _Observer:
    name: str
    manager: pluggy.PluginManager
    options: Options


class Observers:
    """The plugins of kind `observer` that the settings enable, loaded at the first event."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def tell(self, event: events.Event) -> None:
        """Call every observer that has a hook for the event. What one raises is logged, and that is all."""
        for observer in self._loaded:
            try:
                getattr(observer.manager.hook, HOOKS[type(event)])(
                    settings=self._settings, options=observer.options, event=event
                )
            except KeyboardInterrupt:
                raise
            except BaseException:  # extensions in other languages have errors that are no Exception
                log.exception("the observer %s failed at %s", observer.name, type(event).__name__)

    @cached_property
    def _loaded(self) -> list[_Observer]:
        """Those that can be loaded: `gramian serve` has refused the others, and a function goes on without them."""
        found = []
        for name in self._settings.observers:
            try:
                found.append(_Observer(name, *plugins.opened("observer", name, self._settings)))
            except PluginError as error:
                log.error("an observer is left out: %s", error)
            except KeyboardInterrupt:
                raise
            except BaseException:
                log.exception("an observer is left out: %s", name)
        return found
