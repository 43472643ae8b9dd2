"""Which transport a federation's map means."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from gramian.errors import InvalidRequest, Unavailable
from gramian.node import Node
from gramian.ports import ABSENT
from gramian.usecases import records
from gramian.usecases.federation import found, membership, requests

CODE = """
from gramian.hookspecs import hookimpl
gramian_api = "1"

class Bus:
    secret_options = frozenset()
    removed = []
    def check_options(self, options):
        return {**options, "checked": "yes"}
    def open(self, options):
        return self
    def destroy(self, fed_id):
        self.removed.append(fed_id)
    def close(self): ...

@hookimpl
def gramian_transport():
    return Bus()
"""
BASICS = {"fed_name": "f", "sync_sched": "m5"}


@pytest.fixture
def bus_node(node: Node, install: Callable[..., None]) -> Node:
    """A node with a transport of a third party besides that over NATS."""
    plugins = {"transport.bus": "bus", "transport.car": "no_such_car"}
    install("bus", CODE, plugins, {"bus_": "transport.bus", "car_": "transport.car", "ox_": "transport.ox"})
    return dataclasses.replace(node, settings=dataclasses.replace(node.settings, transports=("nats", "bus")))


def test_keys_choose_the_transport(bus_node: Node) -> None:
    """Which gets its own keys as text, and no others."""
    wanted = requests.wishes(bus_node, {**BASICS, "bus_lines": 3, "persist": True, "other": "x"})
    assert (wanted.transport, wanted.options) == ("bus", {"bus_lines": "3", "checked": "yes"})
    assert requests.wishes(bus_node, {**BASICS, "nats_hosts": "n:1"}).transport == "nats"


def test_map_without_keys_means_the_first_transport(bus_node: Node) -> None:
    """Empty values are as good as none."""
    with pytest.raises(InvalidRequest, match="nats_hosts is missing"):
        requests.wishes(bus_node, {**BASICS, "bus_lines": ""})
    node = dataclasses.replace(bus_node, settings=dataclasses.replace(bus_node.settings, transports=("bus", "nats")))
    assert requests.wishes(node, BASICS).transport == "bus"


def test_keys_of_two_transports_are_refused(bus_node: Node) -> None:
    """Naming both, and which keys each is meant by."""
    with pytest.raises(
        InvalidRequest, match=r"several: bus \(bus_a, bus_b\) and nats \(nats_hosts\); leave out all but"
    ):
        requests.wishes(bus_node, {**BASICS, "bus_b": "1", "nats_hosts": "n:1", "bus_a": "2"})


@pytest.mark.parametrize(
    ("transports", "words"), [(("nats",), "enabled: nats"), (("nats", "bus"), "enabled: nats, bus")]
)
def test_keys_of_a_transport_that_is_not_enabled_are_refused(
    bus_node: Node, transports: tuple[str, ...], words: str
) -> None:
    """Instead of a federation over another one than the user meant."""
    node = dataclasses.replace(bus_node, settings=dataclasses.replace(bus_node.settings, transports=transports))
    with pytest.raises(InvalidRequest, match=f"car_wheels asks for .* 'car' is not enabled on this node; {words}"):
        requests.wishes(node, {**BASICS, "car_wheels": "4"})


def test_keys_of_a_transport_that_cannot_be_loaded_are_refused(bus_node: Node) -> None:
    """Its keys are known, it is not there."""
    node = dataclasses.replace(bus_node, settings=dataclasses.replace(bus_node.settings, transports=("nats", "car")))
    with pytest.raises(InvalidRequest, match=r"car_wheels asks for .*'transport.car' cannot be imported"):
        requests.wishes(node, {**BASICS, "car_wheels": "4"})


def test_claims_of_what_is_merely_installed_hold_up_no_federation(bus_node: Node, install: Callable[..., None]) -> None:
    """Nor do those for a transport that nobody publishes: neither on keys of an enabled one, nor on Gramian's own."""
    claims = dict.fromkeys(("nats_hosts", "fed_name", "fed_", "sync_", "pid"), "transport.other")
    install("other", "raise SystemExit('imported')", {"transport.other": "other"}, claims)
    wanted = requests.wishes(bus_node, {**BASICS, "nats_hosts": "n:1", "ox_team": "2", "pid": "p"})
    assert (wanted.transport, wanted.options["nats_hosts"]) == ("nats", "nats://n:1")


def test_federation_whose_transport_was_disabled_is_unavailable(bus_node: Node) -> None:
    """Not a mistake of whoever asks, and not the end: enabling it again mends it."""
    member = SimpleNamespace(record=SimpleNamespace(transport="car"), transport_options=dict)
    with pytest.raises(
        Unavailable, match=r"'car' is not enabled on this node; enabled: nats, bus \(GRAMIAN_TRANSPORT\)"
    ):
        membership.connect(bus_node, member)


def test_founding_in_a_disabled_transport_holds_up_no_other(bus_node: Node) -> None:
    """What is left of it is removed when that is possible again."""
    node = dataclasses.replace(bus_node, instance_alive=lambda _instance: False)
    for fed_id, transport in (("0" * 32, "car"), ("1" * 32, "bus")):
        sealed = membership.seal_secrets(node, fed_id, records.Secrets({}))
        node.state.write(records.put(found.FOUNDINGS, fed_id, records.Founding(sealed, "", transport), ABSENT))
    found.sweep(node)
    assert node.transport("bus").removed == ["1" * 32]
    assert list(records.listed(node.state, found.FOUNDINGS, "", records.Founding)) == ["0" * 32]
