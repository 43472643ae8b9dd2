"""Users: a customer id and the 128-bit key that signs and seals its requests."""

from __future__ import annotations

import base64
import secrets

from gramian.domain.names import check_id
from gramian.errors import AlreadyExists, ConditionFailed, InvalidRequest
from gramian.node import Node
from gramian.ports import ABSENT, Delete
from gramian.usecases import jobs, records, removal
from gramian.usecases.projects import lifecycle

PARTITION = "users"
KEY_BYTES = 16


def create(node: Node, cid: str, secret_key: str | None = None) -> str:
    """Add a user and return its key (base64 of 16 bytes, random unless given)."""
    check_id("customer id", cid)
    key = secrets.token_bytes(KEY_BYTES) if secret_key is None else _decoded(secret_key)
    user = records.User(node.vault.seal(key, _context(cid)), int(node.clock() * 1000))
    try:
        node.state.write(records.put(PARTITION, cid, user, ABSENT))
    except ConditionFailed as error:
        raise AlreadyExists(f"the user '{cid}' exists already; delete it first or choose another id") from error
    return base64.b64encode(key).decode()


def secret(node: Node, cid: str) -> str | None:
    """The user's key in base64, or None for an unknown user."""
    stored = records.load(node.state, PARTITION, cid, records.User)
    return None if stored is None else base64.b64encode(node.vault.open(stored.record.secret, _context(cid))).decode()


def listed(node: Node) -> list[str]:
    return [cid for cid, _ in node.state.query(PARTITION)]


def delete(node: Node, cid: str, *, with_projects: bool = False) -> None:
    """Remove a user. Raises InvalidRequest for an unknown one, and for one with projects unless those may go too."""
    if node.state.get(PARTITION, cid) is None:
        raise InvalidRequest(f"there is no user '{cid}'")
    for pid in lifecycle.listed(node, cid):
        if not with_projects:
            raise InvalidRequest(f"the user '{cid}' has the project '{pid}'; delete its projects first, or with it")
        removal.delete(node, cid, pid)
    jobs.forget_all(node, cid)
    node.state.write(Delete(PARTITION, cid))


def _context(cid: str) -> str:
    return f"user {cid}"


def _decoded(secret_key: str) -> bytes:
    try:
        key = base64.b64decode(secret_key, validate=True)
    except ValueError as error:
        raise InvalidRequest("the secret key is not base64") from error
    if len(key) != KEY_BYTES:
        raise InvalidRequest(f"the secret key holds {len(key)} bytes; the wire contract's AES-128 key has {KEY_BYTES}")
    return key
