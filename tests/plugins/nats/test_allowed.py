"""The servers that an operator allows, and no others."""

from __future__ import annotations

import pytest

from gramian import plugins
from gramian.errors import InvalidRequest
from gramian.settings import Settings


def checked(allowed: str, hosts: str) -> str:
    transport = plugins.make("transport", "nats", Settings.from_env({"GRAMIAN_NATS_ALLOWED_HOSTS": allowed}))
    return transport.check_options({"nats_hosts": hosts})["nats_hosts"]


@pytest.mark.parametrize(
    ("allowed", "hosts"),
    [
        ("", "anything.example"),
        ("nats.example.org", "NATS.example.org"),
        ("*.corp.example, 10.0.0.5", "tls://a.corp.example:4222,b.c.corp.example,10.0.0.5"),
    ],
)
def test_allowed_servers_pass(allowed: str, hosts: str) -> None:
    """By name, by domain, by address; all, where nothing is said."""
    assert checked(allowed, hosts)


@pytest.mark.parametrize(
    ("allowed", "hosts"),
    [
        ("nats.example.org", "other.example.org"),
        ("nats.example.org", "nats.example.org,other.example.org"),
        ("*.corp.example", "corp.example"),
        ("*.corp.example", "evilcorp.example"),
        ("10.0.0.5", "10.0.0.50"),
    ],
)
def test_other_servers_are_refused_by_name(allowed: str, hosts: str) -> None:
    """One of several is enough; the text says what is allowed."""
    with pytest.raises(InvalidRequest, match=r"may not use the NATS server .* allows .*GRAMIAN_NATS_ALLOWED_HOSTS"):
        checked(allowed, hosts)


def test_server_that_was_allowed_once_is_not_opened_any_more() -> None:
    """Options are checked when a federation is founded; the operator may change its mind later."""
    transport = plugins.make("transport", "nats", Settings.from_env({"GRAMIAN_NATS_ALLOWED_HOSTS": "a.example"}))
    with pytest.raises(InvalidRequest, match=r"b\.example"):
        transport.open({"nats_hosts": "b.example"})
