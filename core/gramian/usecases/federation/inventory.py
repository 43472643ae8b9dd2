"""What an AWS account holds of SNS and SQS: the contract's awsinfo, answered by a job."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gramian.errors import InvalidRequest, PluginError
from gramian.node import Node
from gramian.ports import Inventory
from gramian.usecases import jobs
from gramian.usecases.federation.requests import text_of

TRANSPORT = "s3"
ENTITY = "awsInfo"
_NEEDED = ("aws_access_key", "aws_secret_key")


class Account(msgspec.Struct, frozen=True):
    """`sealed`: the options to look with, credentials among them, under the node's master key."""

    sealed: str


def submit(node: Node, cid: str, values: Mapping[str, object]) -> int:
    """Have a job look; returns its number. Raises InvalidRequest."""
    options = {key: text_of(values, key) for key in (*_NEEDED, "aws_region")}
    missing = [key for key in _NEEDED if not options[key]]
    if missing:
        raise InvalidRequest(f"{' and '.join(missing)} must be given: the credentials to look with")
    _inventory(node)
    return jobs.submit(node, cid, "awsinfo", Account(node.vault.seal(msgspec.json.encode(options), _context(cid))))


def run(task: jobs.Task) -> None:
    """The job. Raises TransportError, InvalidRequest."""
    sealed = task.arguments(Account).sealed
    options = msgspec.json.decode(task.node.vault.open(sealed, _context(task.cid)), type=dict[str, str])
    task.answer({ENTITY: _inventory(task.node).inventory(options)})


def _inventory(node: Node) -> Inventory:
    try:
        transport = node.transport(TRANSPORT)
    except PluginError as error:
        raise InvalidRequest(f"this node cannot look into AWS accounts: {error}") from error
    if not isinstance(transport, Inventory):
        raise InvalidRequest(f"this node's transport '{TRANSPORT}' cannot look into AWS accounts")
    return transport


def _context(cid: str) -> str:
    return f"awsinfo {cid}"
