"""The `gramian` command."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gramian import __version__
from gramian.errors import GramianError
from gramian_local.cli.nats import nats
from gramian_local.cli.plugins import plugins
from gramian_local.cli.pulse import pulse
from gramian_local.cli.recovery import fed, recovery_key
from gramian_local.cli.s3 import s3

if TYPE_CHECKING:
    from gramian.settings import Settings

home_option = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="GRAMIAN_HOME",
    show_envvar=True,
    help="Directory that holds all of a node's data.  [default: the platform's user data directory]",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="gramian")
def cli() -> None:
    """Exact federated learning: nodes keep their rows and share sufficient statistics only."""


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 for a free one.")
@home_option
@click.option(
    "--nats-port",
    default=4222,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port of the embedded nats-server (0: a free one); a usable NATS that listens there already is used instead.",
)
@click.option("--no-nats", is_flag=True, help="Start no nats-server: federations name their own in nats_hosts.")
def serve(host: str, port: int, home: Path | None, nats_port: int, no_nats: bool) -> None:
    """Serve the REST API, the pulses and an embedded NATS in one process, until Ctrl-C."""
    from gramian_local.server import serve as run

    run(host, port, home, None if no_nats else nats_port)


@cli.group()
def user() -> None:
    """Manage the users of a node: who may call its REST API."""


@user.command("create")
@click.argument("cid")
@home_option
@click.option("--secret-key", metavar="B64", help="The user's key: base64 of 16 bytes.  [default: random]")
def user_create(cid: str, home: Path | None, secret_key: str | None) -> None:
    """Create user CID and print its id and secret key as one line of JSON."""
    from gramian.node import opened
    from gramian.usecases import users

    with opened(_settings(home)) as node:
        key = users.create(node, cid, secret_key)
    click.echo(json.dumps({"cid": cid, "secretKey": key}))


@user.command("list")
@home_option
def user_list(home: Path | None) -> None:
    """Print the ids of all users, one per line."""
    from gramian.node import opened
    from gramian.usecases import users

    with opened(_settings(home)) as node:
        for cid in users.listed(node):
            click.echo(cid)


@user.command("delete")
@click.argument("cid")
@home_option
@click.option("--with-projects", is_flag=True, help="Delete the user's projects too, with all their data.")
def user_delete(cid: str, home: Path | None, with_projects: bool) -> None:
    """Delete user CID."""
    from gramian.node import opened
    from gramian.usecases import users

    with opened(_settings(home)) as node:
        users.delete(node, cid, with_projects=with_projects)


@cli.command()
@click.option("--encrypt", is_flag=True, help="Encrypt what the nodes share (fed_encrypt=true).")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON instead of a table.")
@click.option("--url", help="A server that runs already, such as a stack on AWS; its user gets three projects.")
@click.option("--cid", help="That user's id.")
@click.option("--secret-key", envvar="GRAMIAN_SECRET_KEY", show_envvar=True, help="That user's key.")
@click.option("--nats", "nats_url", help="A NATS that the server reaches.  [default: one on this machine]")
def demo(
    encrypt: bool, as_json: bool, url: str | None, cid: str | None, secret_key: str | None, nats_url: str | None
) -> None:
    """Run a federation of three organisations and compare it with the pooled model."""
    from gramian_local.cli.demo import Server, run

    server = None
    if url is not None:
        if cid is None or secret_key is None:
            raise click.UsageError("--url needs --cid and --secret-key: make a user with `gramian user create`")
        server = Server(url, cid, secret_key)
    sys.exit(run(encrypt=encrypt, as_json=as_json, server=server, nats_url=nats_url))


@cli.command()
def faults() -> None:
    """List the steps at which GRAMIAN_FAULTS=1 GRAMIAN_FAULT=STEP kills the process, for tests of recovery."""
    from gramian.faults import STEPS

    for name, meaning in STEPS.items():
        click.echo(f"{name:20} {meaning}")


cli.add_command(nats)
cli.add_command(s3)
cli.add_command(plugins)
cli.add_command(pulse)
cli.add_command(recovery_key)
cli.add_command(fed)


def main() -> None:
    """Run the command line; what a user can mend is said in one line."""
    try:
        cli()
    except GramianError as error:
        click.echo(f"gramian: {error}", err=True)
        sys.exit(1)


def _settings(home: Path | None) -> Settings:
    from gramian.settings import Settings

    return Settings.from_env(os.environ, home)
