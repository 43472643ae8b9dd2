"""The maps of create and join: what they may hold, and clear words for what cannot work."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, Sequence

import msgspec

from gramian import plugins
from gramian.domain import schedule
from gramian.errors import InvalidRequest, PluginError
from gramian.node import Node
from gramian.ports import Transport
from gramian.usecases.federation import gpu

log = logging.getLogger(__name__)
MAX_NAME_CHARS = 256
OFF = ("", "false", "0", "none", "null")
ON = ("true", "1")
_SWITCHES_NOT_YET = ("fed_use_smpc", "fed_enforce_hipaa_compliance")
_KEYS_NOT_YET = ("fed_psr_contract_snd_fail_action", "fed_psr_contract_rcv_fail_action")
_OWN_KEYS = (
    "fed_name",
    "sync_sched",
    "fed_local_type",
    "fed_encrypt",
    "fed_push",
    "fed_recovery_key",
    "pid",
    "persist",
)
_INVITATION_KEYS = ("fed_id", "fed_secret_key", "fed_req_token", "fed_rest_url")
_KNOWN = frozenset(_OWN_KEYS + _INVITATION_KEYS + _SWITCHES_NOT_YET + _KEYS_NOT_YET)


class Wishes(msgspec.Struct, frozen=True):
    """What both create and join settle. `options` are those of `transport`, checked and normalised by its plugin."""

    fed_name: str
    sync_sched: str
    encrypt: bool
    local_type: str
    push: bool
    transport: str
    options: dict[str, str]


def text_of(values: Mapping[str, object], key: str, default: str = "") -> str:
    """A map's value as text: numbers and booleans are welcome where text is meant."""
    value = values.get(key)
    if value is None:
        return default
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value).strip()
    raise InvalidRequest(f"{key} must be text, a number or true/false")


def flag(values: Mapping[str, object], key: str) -> bool:
    text = text_of(values, key).lower()
    if text not in OFF + ON:
        raise InvalidRequest(f"{key} must be true or false, not '{text[:40]}'")
    return text in ON


def wishes(node: Node, values: Mapping[str, object]) -> Wishes:
    """Check a create or join map. Raises InvalidRequest naming the key and the remedy."""
    refuse_what_is_missing(values)
    name = text_of(values, "fed_name")
    if not 0 < len(name) <= MAX_NAME_CHARS or not name.isprintable():
        raise InvalidRequest(f"fed_name is needed: 1 to {MAX_NAME_CHARS} printable characters")
    try:
        period = schedule.parse(text_of(values, "sync_sched"))
    except ValueError as error:
        raise InvalidRequest(f"sync_sched: {error}") from error
    transport, options = _transport(node, values)
    note_unknown(set(values) - _KNOWN - set(options))
    return Wishes(
        name,
        str(period),
        flag(values, "fed_encrypt"),
        _local_type(node, text_of(values, "fed_local_type", "cpu").lower() or "cpu"),
        flag(values, "fed_push") if "fed_push" in values else True,
        transport,
        options,
    )


def _transport(node: Node, values: Mapping[str, object]) -> tuple[str, dict[str, str]]:
    """The transport that the map's keys mean (the first enabled if they mean none), and its options, checked."""
    enabled = node.settings.transports
    claimed: dict[str, list[str]] = {}
    for key in values:
        for name in plugins.claimants("transport", key, enabled):
            claimed.setdefault(name, []).append(key)
    meant = sorted(name for name, keys in claimed.items() if any(text_of(values, key) for key in keys))
    if len(meant) > 1:
        ways = " and ".join(f"{name} ({', '.join(sorted(claimed[name]))})" for name in meant)
        raise InvalidRequest(
            f"a federation has one transport, and the keys mean several: {ways}; leave out all but one"
        )
    name = meant[0] if meant else enabled[0]
    texts = {key: text_of(values, key) for key in claimed.get(name, ())}
    return name, dict(_usable(node, name, sorted(texts)).check_options(texts))


def _usable(node: Node, name: str, keys: Sequence[str]) -> Transport:
    """The transport that a map asks for by `keys`. Raises InvalidRequest if this node does not have it."""
    try:
        return node.transport(name)
    except PluginError as error:
        because = f"{', '.join(keys)} asks for the transport '{name}': " if keys else ""
        raise InvalidRequest(f"{because}{error}") from error


def recovery_key(values: Mapping[str, object]) -> bytes | None:
    """The public half of the key that may name another admin, if the map has one. Raises InvalidRequest."""
    text = text_of(values, "fed_recovery_key").lower()
    if not text:
        return None
    if re.fullmatch("[0-9a-f]{64}", text) is None or not set(text) - {"0"}:
        raise InvalidRequest(
            "fed_recovery_key must be the public key that `gramian recovery-key new` printed: 64 hex digits"
        )
    return bytes.fromhex(text)


def note_unknown(keys: Collection[str]) -> None:
    """Unknown keys are accepted; the operator can see that they had no effect."""
    if keys:
        log.info("unknown keys are ignored: %s", ", ".join(sorted(keys))[:500])


def refuse_what_is_missing(values: Mapping[str, object]) -> None:
    """Whatever a user would rely on and this version does not have."""
    for key in _SWITCHES_NOT_YET:
        if flag(values, key):
            raise InvalidRequest(f"{key}=true is not available yet; leave it out or set it to false")
    for key in _KEYS_NOT_YET:
        if text_of(values, key):
            raise InvalidRequest(f"{key}: contracts are not available yet; leave it out")


def _local_type(node: Node, kind: str) -> str:
    if kind not in ("cpu", "gpu"):
        raise InvalidRequest(f"fed_local_type must be cpu or gpu, not '{kind[:40]}'")
    if kind == "gpu" and not gpu.is_available(node):
        raise InvalidRequest(
            "fed_local_type=gpu: this node has no GPU, neither a queue of machines with one (GRAMIAN_GPU_JOBS=batch) "
            "nor its own (GRAMIAN_COMPUTE=cupy); use cpu"
        )
    return kind
