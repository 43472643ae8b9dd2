"""A node's login and address change without joining anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gramian.client import BadRequest
from gramian.usecases.federation import membership
from gramian.usecases.projects import lifecycle
from gramian_local.nats_server import NatsServer
from gramian_local.resident import Resident

StartServer = Callable[..., NatsServer]
OLD = {"nats_sec_user": "old", "nats_sec_passwd": "correct-horse"}
NEW = {"nats_sec_user": "new", "nats_sec_passwd": "battery-staple"}


def config(*logins: dict[str, str]) -> str:
    listed = ", ".join(f'{{ user: "{x["nats_sec_user"]}", password: "{x["nats_sec_passwd"]}" }}' for x in logins)
    return f"authorization {{ users: [{listed}] }}"


def options_of(site: Any) -> dict[str, str]:
    return membership.of(site.node, lifecycle.find(site.node, site.name, "study")).transport_options()


def test_login_that_was_leaked_is_replaced_node_by_node(
    site: Callable[[str], Any], start_server: StartServer, assert_converged: Callable[..., None], tmp_path: Path
) -> None:
    """After an eviction: the new one is tried before it is kept, sealed, and an invitation carries it."""
    (tmp_path / "users.conf").write_text(config(OLD))
    server = start_server(config='include "../users.conf"')
    admin, peer, late = sites = [site(name) for name in ("one", "two", "three")]
    admin.create(nats_hosts=server.url, **OLD)
    peer.client.join("study", admin.invite())
    with pytest.raises(BadRequest, match="refuses the login: check nats_sec_user"):
        admin.client.set_transport("study", **NEW)
    assert options_of(admin)["nats_sec_user"] == "old"
    (tmp_path / "users.conf").write_text(config(NEW))
    server.restart()
    for each in (admin, peer):
        with pytest.raises(BadRequest, match="refuses the login"):
            each.client.sync("study")
        each.client.set_transport("study", **NEW)
        assert "battery-staple" not in str(each.client.federation_info("study"))
        each.learn(30)
    late.client.join("study", admin.invite())
    late.learn(40)
    for each in sites * 2:
        each.client.sync("study")
    assert_converged(sites, 100)


def test_federation_moves_to_another_server_once_its_admin_has(
    site: Callable[[str], Any], start_server: StartServer, assert_converged: Callable[..., None]
) -> None:
    """A member that goes first would be alone; afterwards everything is there again."""
    old, new = start_server(), start_server()
    admin, peer = sites = [site(name) for name in ("one", "two")]
    admin.create(nats_hosts=old.url)
    peer.client.join("study", admin.invite())
    for each in sites:
        each.learn(30)
    for each in sites * 2:
        each.client.sync("study")
    with pytest.raises(BadRequest, match="its admin has to go first"):
        peer.client.set_transport("study", nats_hosts=new.url)
    old.stop()
    admin.client.set_transport("study", nats_hosts=new.url)
    peer.client.set_transport("study", nats_hosts=new.url)
    peer.learn(20)
    for each in sites * 2:
        each.client.sync("study")
    assert_converged(sites, 80)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, "no option is given"),
        ({"fed_name": "x"}, "not options of the transport nats: fed_name"),
        ({"nats_hosts": "ftp://x"}, "nats_hosts"),
        ({"nats_sec_user": "x"}, "go together"),
        ({"nats_stream_max_memory": 2**22 + 1}, "settled when it is founded"),
        ({"nats_stream_replicas": 3}, "settled when it is founded"),
    ],
)
def test_change_that_cannot_work_is_refused_and_changes_nothing(
    site: Callable[[str], Any], nats_server: NatsServer, keys: dict[str, Any], words: str
) -> None:
    """In words that name the key."""
    here = site("one")
    here.create(nats_hosts=nats_server.url)
    before = options_of(here)
    with pytest.raises(BadRequest, match=words):
        here.client.set_transport("study", **keys)
    assert options_of(here) == before


def test_resident_node_listens_with_its_new_options(
    site: Callable[[str], Any], start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ear would be deaf once the old login is gone."""
    server = start_server(config=config(OLD, NEW))
    here = site("one")
    here.create(nats_hosts=server.url, **OLD)
    here.client.start_pulse("study")
    project = lifecycle.find(here.node, here.name, "study")
    resident = Resident(here.node)
    resident._follow({project.uid: project})
    first = resident._ears[project.uid].link
    resident._follow({project.uid: project})
    assert resident._ears[project.uid].link is first
    here.client.set_transport("study", **NEW)
    resident._follow({project.uid: project})
    second = resident._ears[project.uid].link
    assert second is not first
    assert second is not None
    second.close()
