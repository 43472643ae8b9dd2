"""`gramian nats`: what the operator of a NATS server needs from a federation."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gramian.errors import InvalidRequest

if TYPE_CHECKING:
    from gramian.domain.protocol.roster import Roster
    from gramian.node import Node


@click.group()
def nats() -> None:
    """Prepare a NATS server for a federation."""


@nats.command()
@click.option("--fed", "fed_id", required=True, metavar="ID", help="The federation: fed_id in its info.")
@click.option(
    "--account",
    is_flag=True,
    help="A login for each member, which cannot touch what others publish, instead of one login for all.",
)
@click.option(
    "--peer",
    "peers",
    multiple=True,
    metavar="LOGIN=ID",
    help="With --account: the login of a member besides the admin, and its id; repeat it.  "
    "[default: the members that the node in --home knows, their ids as logins]",
)
@click.option("--name", help="Name of the account that holds the streams.  [default: GRM_ and the federation's id]")
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="GRAMIAN_HOME",
    show_envvar=True,
    help="Directory of a node of the federation.  [default: the platform's user data directory]",
)
def permissions(fed_id: str, account: bool, peers: tuple[str, ...], name: str | None, home: Path | None) -> None:
    """Print nats-server configuration that lets a federation's members do what they must, and no more.

    The text is to be included in `accounts { }`. Passwords appear as variables, which you set at the top of the
    configuration or in the environment of nats-server.
    """
    from gramian_nats import permissions as texts

    if not re.fullmatch("[0-9a-f]{32}", fed_id):
        raise InvalidRequest("--fed is a federation's id: 32 hex digits, fed_id in its info")
    holder = name or f"GRM_{fed_id}"
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_]{0,47}", holder):
        raise InvalidRequest("--name has at most 48 letters, digits and _, and begins with a letter")
    if not account:
        click.echo(texts.shared(fed_id, holder), nl=False)
        return
    members = dict(_pair(peer) for peer in peers) if peers else {id_: id_ for id_ in _members(fed_id, home)}
    click.echo(texts.isolated(fed_id, holder, members), nl=False)


def _pair(text: str) -> tuple[str, str]:
    """(login, peer id)"""
    found = re.fullmatch("([A-Za-z0-9_]{1,48})=([0-9a-f]{32})", text)
    if found is None:
        raise InvalidRequest(
            "--peer is LOGIN=ID: a login of at most 48 letters, digits and _, and a member's id of 32 hex digits, as "
            "peersInfo in the federation's info has it"
        )
    return found[1], found[2]


def _members(fed_id: str, home: Path | None) -> list[str]:
    """The active members besides the admin."""
    from gramian.domain.protocol.keys import peer_id
    from gramian.settings import Settings
    from gramian_local.node import opened

    with opened(Settings.from_env(os.environ), home) as (node, _):
        roster = _roster(node, fed_id)
    admin = peer_id(bytes.fromhex(roster.admin_ed), bytes.fromhex(roster.admin_x))
    return [member.id for member in roster.active() if member.id != admin]


def _roster(node: Node, fed_id: str) -> Roster:
    from gramian.usecases import users
    from gramian.usecases.federation import membership
    from gramian.usecases.projects import lifecycle

    for cid in users.listed(node):
        for project in lifecycle.of_user(node, cid):
            if project.record.federated:
                member = membership.of(node, project)
                if member.fed_id == fed_id:
                    return member.roster
    raise InvalidRequest(f"no node of federation {fed_id} in this home: name its members with --peer, or see --home")
