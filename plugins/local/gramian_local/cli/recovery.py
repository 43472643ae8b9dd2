"""`gramian recovery-key` and `gramian fed recover`: another admin, when the admin's node is lost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from gramian.domain import typed
from gramian.errors import BadSeal, InvalidRequest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MIN_PASSPHRASE_CHARS = 12
MAX_FILE_BYTES = 4096
_key_file = click.Path(dir_okay=False, path_type=Path)


class _KeyFile(msgspec.Struct, frozen=True):
    """`public`: for fed_recovery_key. `sealed`: the seed under the passphrase (scrypt and AES-256-GCM)."""

    public: str
    sealed: str


@click.group("recovery-key")
def recovery_key() -> None:
    """Make and check the offline key that can name another admin of a federation."""


@recovery_key.command()
@click.argument("file", type=_key_file)
@click.option(
    "--passphrase",
    prompt=True,
    hide_input=True,
    confirmation_prompt=True,
    envvar="GRAMIAN_RECOVERY_PASSPHRASE",
    help="Seals the file.  [default: asked for, or $GRAMIAN_RECOVERY_PASSPHRASE]",
)
def new(file: Path, passphrase: str) -> None:
    """Write a new key to FILE, sealed, and print its public half: the value of fed_recovery_key at create.

    Do this on a machine that you trust, it needs no network, and keep file and passphrase apart from all nodes. Whoever
    has both can make themselves the admin; who has neither can never recover.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if len(passphrase) < MIN_PASSPHRASE_CHARS:
        raise InvalidRequest(f"the passphrase must have {MIN_PASSPHRASE_CHARS} characters or more")
    key = Ed25519PrivateKey.generate()
    _write(file, key, passphrase)
    click.echo(_public(key))


@recovery_key.command()
@click.argument("file", type=_key_file)
@click.option("--passphrase", prompt=True, hide_input=True, envvar="GRAMIAN_RECOVERY_PASSPHRASE")
def show(file: Path, passphrase: str) -> None:
    """Open FILE and print its public half: proof that file and passphrase are still good."""
    click.echo(_public(_read(file, passphrase)))


@click.group()
def fed() -> None:
    """Look after the federations of this machine's node."""


@fed.command()
@click.argument("cid")
@click.argument("pid")
@click.option("--key", "file", required=True, type=_key_file, help="What `gramian recovery-key new` wrote.")
@click.option("--passphrase", prompt=True, hide_input=True, envvar="GRAMIAN_RECOVERY_PASSPHRASE")
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="GRAMIAN_HOME",
    show_envvar=True,
    help="Directory of the node.  [default: the platform's user data directory]",
)
def recover(cid: str, pid: str, file: Path, passphrase: str, home: Path | None) -> None:
    """Make project PID of user CID the admin of its federation.

    For when the admin's node is lost for good. All members follow at their next syncs, and no backup of the old admin's
    node can take it back. The old admin stays a member: evict it, or invite somebody in its place.
    """
    from gramian.settings import Settings
    from gramian.usecases.federation import recovery
    from gramian_local.node import opened

    key = _read(file, passphrase)
    with opened(Settings.from_env(os.environ), home) as (node, _):
        member = recovery.recover(node, cid, pid, key)
    before = "the first succession" if len(member.roster.successions) == 1 else "one more succession"
    click.echo(f"{member.peer_id} is the admin of federation {member.fed_id} now ({before})")


def _public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def _write(file: Path, key: Ed25519PrivateKey, passphrase: str) -> None:
    from secrets import token_bytes

    from gramian.domain.sealing import Scheme, seal_invitation

    sealed = seal_invitation(key.private_bytes_raw(), passphrase, Scheme.V2, token_bytes)
    text = msgspec.json.format(msgspec.json.encode(_KeyFile(_public(key), sealed)))
    try:
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
            target.write(text + b"\n")
            target.flush()
            os.fsync(target.fileno())
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be made: {error.strerror}") from error


def _read(file: Path, passphrase: str) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from gramian.domain.sealing import open_invitation

    try:
        with file.open("rb") as source:
            known = typed.decode(source.read(MAX_FILE_BYTES), _KeyFile)
        seed, _ = open_invitation(known.sealed.encode(), passphrase)
        key = Ed25519PrivateKey.from_private_bytes(seed)
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {error.strerror}") from error
    except BadSeal as error:
        raise InvalidRequest(f"{file} does not open: the passphrase is wrong, or it was altered") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise InvalidRequest(f"{file} is not a file that `gramian recovery-key new` wrote") from error
    if _public(key) != known.public:
        raise InvalidRequest(f"{file} was altered: its public half is another key's")
    return key
