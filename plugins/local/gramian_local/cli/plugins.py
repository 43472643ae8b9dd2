"""`gramian plugins`: what is installed, its options, whether it keeps its contract, and a start for new ones."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gramian.errors import InvalidRequest, PluginError
from gramian_local.cli.scaffold import KINDS

if TYPE_CHECKING:
    from gramian.options import Option
    from gramian.settings import Settings
    from gramian.testing.running import Outcome


@click.group()
def plugins() -> None:
    """List, describe, check and write plugins."""


@plugins.command("list")
@click.option("--check", is_flag=True, help="Import each plugin too, and say what is wrong with it.")
def list_(check: bool) -> None:
    """List the installed plugins; those that the environment selects are marked with *."""
    from gramian import plugins as found
    from gramian.hook_checks import source

    settings, rows, broken = _settings(), [], False
    chosen = set(found.selected(settings))
    for entry in sorted(found.published(found.GROUP), key=lambda entry: entry.name):
        kind, _, name = entry.name.partition(".")
        row = ["*" if (kind, name) in chosen else "", entry.name, source(entry)]
        if check:
            problem = _problem(kind, name, settings)
            broken = broken or (bool(problem) and (kind, name) in chosen)
            row.append(problem or "ok")
        rows.append(row)
    _table(["", "plugin", "from", *(["check"] if check else [])], rows)
    sys.exit(1 if broken else 0)


@plugins.command()
@click.argument("name")
def show(name: str) -> None:
    """Describe plugin NAME (`sqlite`, or one kind of it: `state.sqlite`): its options and their values here."""
    from gramian import plugins as found
    from gramian.hook_checks import source

    for kind, plugin in _named(name):
        entry = found.find(kind, plugin)
        click.echo(f"{kind}.{plugin}, from {source(entry)}")
        keys = found.keys(kind, plugin)
        if keys:
            shown = ", ".join(f"{key}*" if key.endswith("_") else key for key in keys)
            click.echo(f"Federations use it whose maps have keys {shown}.")
        declared = found.declared(found.load(kind, plugin), kind, plugin)
        if declared:
            rows = [_described(plugin, option) for option in declared]
            _table(["option", "type", "default", "here", "what it does"], rows)
        else:
            click.echo("It has no options.")
        click.echo("")


@plugins.command()
@click.argument("name")
@click.option("--set", "keys", multiple=True, metavar="KEY=VALUE", help="A key of a federation's map, for a transport.")
@click.option("--one-process", is_flag=True, help="For a plugin that lives within one process: try it from no other.")
@click.option("--only", default="", metavar="WORDS", help="Only the tests that match, as pytest's -k.")
def check(name: str, keys: Sequence[str], one_process: bool, only: str) -> None:
    """Run the contract of plugin NAME against it as the environment configures it.

    What the tests write lies in places of their own and is removed; a transport makes federations of its own.
    """
    with _needs():
        from gramian.testing import running
    named = _named(name)
    if len(named) > 1:
        raise InvalidRequest(f"'{name}' is several plugins; name one: {', '.join('.'.join(each) for each in named)}")
    kind, plugin = named[0]
    settings = _settings()
    from gramian import plugins as found

    found.opened(kind, plugin, settings)  # what is wrong already is said in one line
    options = dict(map(_pair, keys))
    if kind == "transport":
        _check_keys(plugin, settings, options)
    with _needs():
        outcomes = running.run(
            f"{kind}.{plugin}",
            environment=_live(),
            options=options,
            only=only,
            across_processes=not one_process,
        )
    _report(outcomes)
    sys.exit(1 if any(outcome.result == "failed" for outcome in outcomes) else 0)


@plugins.command()
@click.argument("name")
@click.option("--kind", required=True, type=click.Choice(list(KINDS)), help="What the plugin is to be.")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to write it.  [default: gramian-NAME, here]",
)
def new(name: str, kind: str, directory: Path | None) -> None:
    """Write a distribution with a plugin NAME that works as it stands, tests included."""
    from gramian_local.cli import scaffold

    place = directory or Path(f"gramian-{name}")
    for path in scaffold.write(name, kind, place):
        click.echo(path)
    click.echo(f"\nNext: cd {place} && pip install -e '.[dev]' && pytest")


def _settings() -> Settings:
    from gramian.settings import Settings

    return Settings.from_env(os.environ)


@contextmanager
def _needs() -> Iterator[None]:
    """What a contract needs and is not installed is said in one line."""
    try:
        yield
    except ModuleNotFoundError as error:
        extra = {"pytest": "testing", "numpy": "testing,numeric"}.get(error.name or "")
        remedy = f"pip install 'gramian[{extra}]'" if extra else f"install {error.name}"
        raise PluginError(f"the contract needs {error.name}: {remedy}") from error


def _live() -> dict[str, str]:
    """The node's own home, named: without it every test would get one of its own."""
    named = os.environ.get("GRAMIAN_HOME")
    if named:
        return {"GRAMIAN_HOME": named}
    from gramian_local.home import default_home

    try:
        return {"GRAMIAN_HOME": str(default_home())}
    except ModuleNotFoundError:  # installed without what a node on one machine needs: there is no home of its own
        return {}


def _named(name: str) -> list[tuple[str, str]]:
    """(kind, name) of the installed plugins that `name` means. Raises PluginError if there is none."""
    from gramian import plugins as found
    from gramian.hook_checks import closest

    kind, dot, plugin = name.partition(".")
    if dot and kind in found.HOOKS:
        found.find(kind, plugin)
        return [(kind, plugin)]
    meant = [(kind, name) for kind in found.HOOKS if name in found.names(kind)]
    if not meant:
        known = {each for kind in found.HOOKS for plugin in found.names(kind) for each in (plugin, f"{kind}.{plugin}")}
        close = closest(name, known)
        likely = f"did you mean '{close[0]}'? " if close else ""
        raise PluginError(f"no plugin '{name}' is installed; {likely}`gramian plugins list` shows all")
    return meant


def _problem(kind: str, name: str, settings: Settings) -> str:
    from gramian import plugins as found

    try:
        found.opened(kind, name, settings)
    except PluginError as error:
        return str(error)
    return ""


def _described(plugin: str, option: Option) -> list[str]:
    """A row about an option; a secret's value is never shown."""
    from gramian.options import variable

    name = variable(plugin, option.name)
    value = os.environ.get(name, "")
    here = "(set)" if value and option.secret else value
    default = "(required)" if option.required else "" if option.default is None else str(option.default)
    return [name, option.expected(), default, here, option.help]


def _check_keys(plugin: str, settings: Settings, options: Mapping[str, str]) -> None:
    """Raises InvalidRequest if these can be no federation's, and says how to give them."""
    from gramian import plugins as found

    with closing(found.make("transport", plugin, settings)) as transport:
        try:
            transport.check_options(options)
        except InvalidRequest as error:
            raise InvalidRequest(f"{error}. A federation's keys are given by --set KEY=VALUE") from error


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"'{text}' is not KEY=VALUE", param_hint="--set")
    return key, value


def _report(outcomes: Sequence[Outcome]) -> None:
    _table(["test", "result", "s"], [[each.test, each.result, f"{each.seconds:.2f}"] for each in outcomes])
    for each in outcomes:
        if each.result == "failed":
            click.echo(f"\n{each.test}: {each.meaning}\n  {each.why}")
    counts = {result: sum(each.result == result for each in outcomes) for result in ("passed", "failed", "skipped")}
    click.echo("\n" + ", ".join(f"{count} {result}" for result, count in counts.items() if count or result == "passed"))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table by rich if that is installed and somebody looks; columns with tabs for programs."""
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(row))
        return
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        _plain(head, rows)
        return
    table = Table()
    for number, title in enumerate(head):
        table.add_column(title, overflow="fold", no_wrap=all(" " not in row[number] for row in rows))
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def _plain(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
