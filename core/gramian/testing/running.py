"""Running a contract suite from a program instead of from pytest's command line."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gramian.errors import PluginError
from gramian.testing import checked, contract, show_values


@dataclass(frozen=True, slots=True)
class Outcome:
    """`result`: passed, failed or skipped. `meaning`: what the test is about. `why`: what was found instead, if it did
    not pass."""

    test: str
    result: str
    seconds: float
    meaning: str
    why: str


def run(
    plugin: str,
    *,
    environment: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
    unreachable: Mapping[str, str] | None = None,
    only: str = "",
    **attributes: object,
) -> list[Outcome]:
    """Run the contract of the installed plugin `<kind>.<name>`, or the tests of it that `only` matches (as pytest's
    `-k`). The rest is as for `gramian.testing.contract`. Raises PluginError, ValueError."""

    def make() -> type:
        return contract(plugin, environment=environment, options=options, unreachable=unreachable, **attributes)

    listener = _Listener(make)
    arguments = ["-p", "no:cacheprovider", "-p", "no:terminal", "-p", "no:faulthandler", "-s", "-c", os.devnull]
    with _undisturbed(), tempfile.TemporaryDirectory() as place:
        status = pytest.main(
            [*arguments, "--rootdir", place, "--import-mode=importlib", "-k", only, str(Path(checked.__file__))],
            plugins=[listener],
        )
    if listener.error is not None:
        raise listener.error
    if not listener.outcomes:
        raise PluginError(f"no test of the contract of '{plugin}' was run (pytest: {pytest.ExitCode(status).name})")
    return listener.outcomes


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Without whatever else is installed for pytest here."""
    before = {name: os.environ.pop(name, None) for name in ("PYTEST_ADDOPTS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD")}
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    try:
        yield
    finally:
        del os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"]
        os.environ.update({name: value for name, value in before.items() if value is not None})


class _Listener:
    """Notes what becomes of each test of the suite that `make` makes."""

    def __init__(self, make: Callable[[], type]) -> None:
        self.outcomes: list[Outcome] = []
        self.error: Exception | None = None
        self._make = make
        self._meanings: dict[str, str] = {}

    def pytest_sessionstart(self) -> None:
        """Not before, or pytest could not show the values in its assertions."""
        show_values()
        try:
            checked.TestPlugin = self._make()
        except Exception as error:  # noqa: BLE001 - raised again when pytest, which would print it, has ended
            self.error = error
            vars(checked).pop("TestPlugin", None)

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        document = getattr(getattr(item, "function", None), "__doc__", None) or ""
        self._meanings[item.nodeid] = " ".join(document.split())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            test = report.nodeid.rpartition("::")[2]
            why = "" if report.passed else _reason(report)
            self.outcomes.append(Outcome(test, report.outcome, report.duration, self._meanings[report.nodeid], why))


def _reason(report: pytest.TestReport) -> str:
    """The first line of what went wrong."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        return str(crash.message)
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2]
    return str(report.longrepr)
