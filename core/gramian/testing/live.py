"""Suites over installed plugins, opened as a node opens them: by name, with the options of the environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gramian import plugins
from gramian.settings import Settings
from gramian.testing.clock import LiveClock

if TYPE_CHECKING:
    from gramian.testing.processes import Worker

Open = Callable[[], Any]


def contract(
    plugin: str,
    *,
    environment: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
    unreachable: Mapping[str, str] | None = None,
    **attributes: object,
) -> type:
    """A test class that runs the kind's suite against the installed plugin `<kind>.<name>`; assign it to a name that
    begins with `Test`.

    `environment` is laid over the process's: options (`GRAMIAN_<NAME>_<OPTION>`), and `GRAMIAN_HOME`, without which
    each test has a home of its own. `options`: keys of a federation's map, for a transport. `unreachable`: with what
    the plugin reaches nobody; such keys for a transport, for the others variables that are laid over `environment`.
    `attributes` replace those of the suite, such as `threads`. Raises ValueError for a kind without a suite, TypeError
    for an attribute that it does not have.
    """
    from gramian.testing import SUITES

    kind, _, name = plugin.partition(".")
    if kind not in SUITES:
        raise ValueError(f"there is no contract suite for '{plugin}'; kinds with one: {', '.join(SUITES)}")
    module, _, suite = SUITES[kind].partition(":")
    live, across = _MIXINS[kind]
    # Imported only now: a program that runs a suite has pytest watch these imports.
    others = [getattr(import_module("gramian.testing.processes"), across)] if across else []
    bases = (live, *others, getattr(import_module(module), suite))
    unknown = [attribute for attribute in attributes if not any(hasattr(base, attribute) for base in bases)]
    if unreachable and not any(hasattr(base, "unreachable") for base in bases):
        unknown.append("unreachable")
    if unknown:
        raise TypeError(f"{suite} has no attribute {', '.join(unknown)}")
    about = {"__doc__": f"The contract of `{plugin}`.", "__module__": __name__}
    given = {"plugin": plugin, "environment": dict(environment or {}), "federation_keys": dict(options or {})}
    given["nowhere"] = dict(unreachable or {})
    return type(f"Test{name.title()}{suite}", bases, {**about, **given, **attributes})


class Live:
    """Opens the plugin under test, here and in other processes."""

    plugin: str
    environment: Mapping[str, str]
    federation_keys: Mapping[str, str]
    nowhere: Mapping[str, str] = {}
    across_processes = True
    """False for what lives and ends with one process."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        home = self.environment.get("GRAMIAN_HOME") or str(tmp_path / "home")
        return Settings.from_env({**os.environ, **self.environment, "GRAMIAN_HOME": home})

    @pytest.fixture
    def make(self, settings: Settings) -> Iterator[Open]:
        """Makes the plugin's object anew; all are closed when the test ends."""
        made: list[Any] = []
        kind, _, name = self.plugin.partition(".")

        def make_one(**context: object) -> Any:
            made.append(plugins.make(kind, name, settings, **context))
            return made[-1]

        yield make_one
        for each in made:
            close = getattr(each, "close", None)
            if close is not None:
                close()

    @pytest.fixture
    def make_unreachable(self, settings: Settings) -> Open:
        """Makes the plugin's object where it reaches nobody."""
        if not self.nowhere:
            pytest.skip("no variables with which nobody is reached were given (`unreachable`)")
        home = None if "GRAMIAN_HOME" in self.nowhere else settings.home
        kind, _, name = self.plugin.partition(".")
        lost = Settings.from_env({**settings.environment, **self.nowhere}, home)
        return lambda: plugins.make(kind, name, lost)

    @pytest.fixture
    def workers(self, settings: Settings) -> Iterator[Callable[[int], list[Worker]]]:
        """Starts processes that have the plugin open; they end with the test."""
        if not self.across_processes:
            pytest.skip(f"{self.plugin} lives within one process")
        from gramian.testing.processes import Worker

        started: list[Worker] = []

        def start(count: int) -> list[Worker]:
            new = [Worker(self.plugin, settings) for _ in range(count)]
            started.extend(new)
            for worker in new:
                worker.wait_until_open()
            return new

        yield start
        for worker in started:
            worker.kill()


class LiveStore(Live):
    """Fixtures of the suites of stores."""

    @pytest.fixture
    def open_again(self, make: Open) -> Open:
        return make

    @pytest.fixture
    def store(self, open_again: Open) -> Any:
        return open_again()

    @pytest.fixture
    def unreachable(self, make_unreachable: Open) -> Open:
        return make_unreachable


class LiveStateStore(LiveStore):
    """A plugin's store tells the time by itself: what expires is waited for, so it is made to expire soon."""

    expiry_s = 3

    @pytest.fixture
    def clock(self) -> LiveClock:
        return LiveClock()


class LiveTransport(Live):
    """Fixtures of the suite of transports."""

    @pytest.fixture
    def transport(self, make: Open) -> Any:
        return make()

    @pytest.fixture
    def options(self, transport: Any) -> Mapping[str, str]:
        checked: Mapping[str, str] = transport.check_options(self.federation_keys)
        return checked

    @pytest.fixture
    def unreachable(self) -> Mapping[str, str]:
        if not self.nowhere:
            pytest.skip("no options that lead nowhere were given (`unreachable`)")
        return self.nowhere


class LiveIdentity(Live):
    """Fixtures of the suite of identities."""

    @pytest.fixture
    def open_again(self, make: Open) -> Open:
        return make

    @pytest.fixture
    def identity(self, open_again: Open) -> Any:
        return open_again()

    @pytest.fixture
    def unreachable(self, make_unreachable: Open) -> Open:
        return make_unreachable


class LiveUploadStore(Live):
    """Fixtures of the suite of stores of uploads."""

    @pytest.fixture
    def store(self, make: Open) -> Any:
        return make()

    @pytest.fixture
    def unreachable(self, make_unreachable: Open) -> Open:
        return make_unreachable


class LiveCompute(Live):
    """Fixtures of the suite of compute backends."""

    @pytest.fixture
    def compute(self, make: Open) -> Any:
        return make()


class LiveJobRunner(Live):
    """Fixtures of the suite of job runners."""

    @pytest.fixture
    def runner(self, make: Open) -> Any:
        return make()

    @pytest.fixture
    def unreachable(self, make_unreachable: Open) -> Any:
        return make_unreachable()


class LiveScheduler(Live):
    """Fixtures of the suite of schedulers."""

    @pytest.fixture
    def state(self, tmp_path: Path) -> Iterator[Any]:
        """Not the node's: a scheduler under test would take its due pulses, and pulse nothing."""
        store = plugins.make("state", "sqlite", Settings(home=tmp_path / "state"))
        yield store
        store.close()

    @pytest.fixture
    def scheduler(self, make: Callable[..., Any], state: Any) -> Any:
        return make(state=state)


class LiveObserver(Live):
    """Fixtures of the suite of observers."""

    @pytest.fixture
    def observed(self, settings: Settings) -> tuple[str, Settings]:
        """The observer's name, and settings that enable it."""
        return self.plugin.partition(".")[2], settings


_MIXINS: dict[str, tuple[type, str]] = {
    "transport": (LiveTransport, "TransportAcrossProcesses"),
    "compute": (LiveCompute, ""),
    "identity": (LiveIdentity, "IdentityAcrossProcesses"),
    "state": (LiveStateStore, "StateStoreAcrossProcesses"),
    "tokens": (LiveStore, "TokenStoreAcrossProcesses"),
    "blobs": (LiveStore, "BlobStoreAcrossProcesses"),
    "scheduler": (LiveScheduler, ""),
    "jobs": (LiveJobRunner, ""),
    "uploads": (LiveUploadStore, ""),
    "observer": (LiveObserver, ""),
}
"""By kind: fixtures, and tests of `gramian.testing.processes`."""
