"""What the NATS transport takes as options, and what it says about the rest."""

from __future__ import annotations

import base64
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import nkeys
import pytest

from gramian.domain.addresses import is_forbidden
from gramian.errors import InvalidRequest
from gramian.ports import Limits
from gramian_nats.options import parse_options
from gramian_nats.transport import NatsTransport

LOGINS = ("nats_sec_user", "nats_sec_passwd", "nats_sec_token", "nats_sec_nkey_seed", "nats_sec_creds")
USER_SEED = nkeys.encode_seed(bytes(range(32)), nkeys.PREFIX_BYTE_USER).decode()
ACCOUNT_SEED = nkeys.encode_seed(bytes(range(32)), nkeys.PREFIX_BYTE_ACCOUNT).decode()


PUBLIC_KEY = nkeys.from_seed(bytearray(USER_SEED.encode())).public_key.decode()


def credentials(subject: str = PUBLIC_KEY, seed: str = USER_SEED) -> str:
    """The text of a credentials file; only a server can judge its signature."""
    claims = base64.urlsafe_b64encode(json.dumps({"sub": subject}).encode()).decode().rstrip("=")
    return (
        f"-----BEGIN NATS USER JWT-----\ne30.{claims}.c2ln\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )


def check(**options: str) -> dict[str, str]:
    return dict(NatsTransport().check_options({"nats_hosts": "nats.example.org", **options}))


def test_options_minimal_get_defaults() -> None:
    """The host alone is enough; the rest is filled in as the contract says."""
    assert check() == {
        "nats_hosts": "nats://nats.example.org:4222",
        "nats_req_timeout": "30",
        "nats_stream_max_memory": "1073741824",
        "nats_stream_replicas": "1",
    }


@pytest.mark.parametrize(
    ("given", "normalised"),
    [
        ("a", "nats://a:4222"),
        ("a:1234", "nats://a:1234"),
        ("tls://A.example:1", "tls://a.example:1"),
        ("nats://10.0.0.1/", "nats://10.0.0.1:4222"),
        ("[::1]", "nats://[::1]:4222"),
        ("nats://[2001:db8::1]:99", "nats://[2001:db8::1]:99"),
        ("wss://Nats.example.org", "wss://nats.example.org:443"),
        (" a , b:1,,a ", "nats://a:4222,nats://b:1"),
    ],
)
def test_hosts_in_any_usual_form_are_normalised(given: str, normalised: str) -> None:
    """Scheme and port are filled in, repetitions dropped."""
    assert check(nats_hosts=given)["nats_hosts"] == normalised


@pytest.mark.parametrize(
    "hosts",
    [
        "",
        " , ",
        "http://a",
        "ws://a",
        "wss://a/path",
        "nats://",
        "a:0",
        "a:70000",
        "a:b",
        "nats://a/path",
        "nats://a?x=1",
        "a b",
        "a\nb",
        "ex\u00e4mple",
        "[::1",
        "-a",
        "nats://user:secret@a",
        "secret@a:4222",
        "169.254.169.254",
        "nats://169.254.1.1:80",
        "[fe80::1]",
        "[fe80::1%25eth0]",
        "[fd00:ec2::254]",
        "[::ffff:169.254.169.254]",
        ",".join(f"host{index}" for index in range(17)),
    ],
)
def test_hosts_unusable_are_refused(hosts: str) -> None:
    """The text names the key, and never repeats a login."""
    with pytest.raises(InvalidRequest, match="nats_hosts") as refused:
        check(nats_hosts=hosts)
    assert "secret" not in str(refused.value)


def test_hosts_with_login_are_told_the_right_keys() -> None:
    """Whoever wrote the login into the URL learns where it belongs."""
    with pytest.raises(InvalidRequest, match="nats_sec_user and nats_sec_passwd"):
        check(nats_hosts="nats://u:p@a")


@pytest.mark.parametrize(
    "login",
    [
        {"nats_sec_user": "u", "nats_sec_passwd": "p"},
        {"nats_sec_token": "t"},
        {"nats_sec_nkey_seed": USER_SEED},
        {"nats_sec_creds": credentials()},
    ],
)
def test_login_of_each_kind_is_kept(login: dict[str, str]) -> None:
    """One way of login passes unchanged, and empty keys of the others don't count."""
    empty = dict.fromkeys(LOGINS, "")
    checked = check(**{**empty, **login})
    assert {key: value for key, value in checked.items() if key.startswith("nats_sec")} == login


@pytest.mark.parametrize(
    "login",
    [
        {"nats_sec_user": "u"},
        {"nats_sec_passwd": "verysecret"},
        {"nats_sec_user": "u", "nats_sec_passwd": "verysecret", "nats_sec_token": "verysecret"},
        {"nats_sec_token": "verysecret", "nats_sec_nkey_seed": USER_SEED},
        {"nats_sec_token": "verysecret\r\nPING"},
        {"nats_sec_token": "verysecret" * 1000},
        {"nats_sec_nkey_seed": "verysecret"},
        {"nats_sec_nkey_seed": "ver\u00fdsecret"},
        {"nats_sec_nkey_seed": ACCOUNT_SEED},
        {"nats_sec_nkey_seed": USER_SEED[:-1] + ("A" if USER_SEED[-1] != "A" else "B")},
        {"nats_sec_nkey_seed": USER_SEED.lower()},
        {"nats_sec_creds": "/etc/passwd"},
        {"nats_sec_creds": "verysecret"},
        {"nats_sec_creds": credentials(subject="someone else")},
        {"nats_sec_creds": credentials(seed=ACCOUNT_SEED)},
        {"nats_sec_creds": credentials().replace("USER JWT", "JWT")},
        {"nats_sec_creds": credentials() + " " * 20_000},
        {"nats_sec_creds": credentials(), "nats_sec_token": "verysecret"},
    ],
)
def test_login_incomplete_double_or_broken_is_refused_without_echo(login: dict[str, str]) -> None:
    """The text names a key of the login and holds none of its values."""
    with pytest.raises(InvalidRequest, match="nats_sec") as refused:
        check(**login)
    for secret in ("verysecret", USER_SEED, ACCOUNT_SEED):
        assert secret not in str(refused.value)


def test_websocket_without_its_extra_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text says what to install, at create and not at the first pulse."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("gramian_nats.options.find_spec", lambda name: None if name == "aiohttp" else find_spec(name))
    with pytest.raises(InvalidRequest, match=r"gramian\[nats-ws\]"):
        check(nats_hosts="wss://a")


def test_tls_options_are_kept_as_text(new_authority: Callable[[], Any]) -> None:
    """A bundle of authorities, a client's certificate and its key pass, trimmed."""
    authority = new_authority()
    certificate, key = authority.issue("node")
    given = {
        "nats_tls_ca": authority.pem + new_authority().pem,
        "nats_tls_cert": certificate + authority.pem,
        "nats_tls_key": key,
    }
    checked = check(nats_hosts="tls://a", **given)
    assert {option: checked[option] for option in given} == {option: text.strip() for option, text in given.items()}
    assert NatsTransport().check_options(checked) == checked


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"nats_tls_ca": "/etc/ssl/ca.pem"}, "nats_tls_ca must be the text"),
        ({"nats_tls_ca": "{key}"}, "nats_tls_ca must be the text"),
        ({"nats_tls_ca": "{ca}{key}"}, "nats_tls_ca must be the text"),
        ({"nats_tls_ca": "{ca}" * 100}, "nats_tls_ca must be the text"),
        ({"nats_tls_ca": "{ca}", "nats_hosts": "tls://a,b"}, "nats_tls_ca needs tls:// or wss://"),
        ({"nats_tls_cert": "{cert}", "nats_tls_key": "{key}", "nats_hosts": "a"}, "nats_tls_cert needs tls://"),
        ({"nats_tls_cert": "{cert}"}, "nats_tls_cert and nats_tls_key go together"),
        ({"nats_tls_key": "{key}"}, "nats_tls_cert and nats_tls_key go together"),
        ({"nats_tls_cert": "{cert}", "nats_tls_key": "{other_key}"}, "nats_tls_key is not the key of"),
        ({"nats_tls_cert": "{cert}", "nats_tls_key": "/etc/ssl/key.pem"}, "nats_tls_key must be the text"),
        ({"nats_tls_cert": "{cert}", "nats_tls_key": "{locked_key}"}, "nats_tls_key must be the text"),
        ({"nats_tls_cert": "{key}", "nats_tls_key": "{key}"}, "nats_tls_cert must be the text"),
    ],
)
def test_tls_option_unusable_is_refused_without_echo(
    new_authority: Callable[[], Any], options: dict[str, str], named: str
) -> None:
    """Paths, missing halves, wrong keys, keys where certificates belong, and TLS options without TLS."""
    authority = new_authority()
    certificate, key = authority.issue("node")
    texts = {"ca": authority.pem, "cert": certificate, "key": key, "other_key": authority.issue("node")[1]}
    texts["locked_key"] = authority.locked(key)
    given = {option: value.format(**texts) for option, value in options.items()}
    with pytest.raises(InvalidRequest, match=named) as refused:
        check(**{"nats_hosts": "tls://a", **given})
    assert "PRIVATE" not in str(refused.value)


@pytest.mark.parametrize("text", ["0", "2", "4", "7", "-1", "three"])
def test_replicas_uneven_small_counts_only(text: str) -> None:
    """What JetStream can keep a majority of."""
    with pytest.raises(InvalidRequest, match="nats_stream_replicas must be"):
        check(nats_stream_replicas=text)


def test_limits_are_what_the_options_ask_for() -> None:
    """Room and copies, as the roster tells them to all members."""
    options = {"nats_hosts": "a", "nats_stream_replicas": "3", "nats_stream_max_memory": "2000000"}
    assert NatsTransport().limits(options) == Limits(max_blob_bytes=2_000_000, replicas=3)


def test_secret_options_are_declared() -> None:
    """What is sealed at rest and never shown."""
    assert NatsTransport().secret_options == {*LOGINS, "nats_tls_key", "nats_member_creds"} - {"nats_sec_user"}


def test_shared_options_leave_out_what_is_the_nodes_own(new_authority: Callable[[], Any]) -> None:
    """Never its certificate; its login only if it says so."""
    certificate, key = new_authority().issue("node")
    given = {"nats_hosts": "tls://a", "nats_tls_cert": certificate, "nats_tls_key": key, "nats_sec_token": "t"}
    transport = NatsTransport()
    checked = transport.check_options(given)
    assert set(checked) - set(transport.shared_options(checked)) == {"nats_tls_cert", "nats_tls_key"}
    checked = transport.check_options({**given, "nats_sec_shared": "False"})
    left_out = {"nats_tls_cert", "nats_tls_key", "nats_sec_token"}
    assert set(checked) - set(transport.shared_options(checked)) == left_out
    with pytest.raises(InvalidRequest, match="nats_sec_shared"):
        check(nats_sec_shared="perhaps")


@pytest.mark.parametrize("text", ["0", "601", "-1", "1.5", "ten", "\u0661", "1" * 30])
def test_timeout_out_of_range_is_refused(text: str) -> None:
    """Whole seconds from 1 to 600."""
    with pytest.raises(InvalidRequest, match="nats_req_timeout must be a whole number from 1 to 600"):
        check(nats_req_timeout=text)


@pytest.mark.parametrize("text", ["0", str(2**20 - 1), str(2**40 + 1), "1GB"])
def test_memory_out_of_range_is_refused(text: str) -> None:
    """Whole bytes from 1 MiB to 1 TiB."""
    with pytest.raises(InvalidRequest, match="nats_stream_max_memory"):
        check(nats_stream_max_memory=text)


def test_options_shown_hold_no_secret() -> None:
    """Whatever logs the parsed options logs no login."""
    password = parse_options({"nats_hosts": "a", "nats_sec_user": "u", "nats_sec_passwd": "verysecret"})
    creds = parse_options({"nats_hosts": "a", "nats_sec_creds": credentials()})
    assert "verysecret" not in repr(password)
    assert USER_SEED not in repr(creds)


@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "::1", "2001:db8::1", "169.253.255.255", "fd00:ec3::1"])
def test_address_ordinary_is_allowed(address: str) -> None:
    """Private and loopback addresses are where most NATS servers are."""
    assert not is_forbidden(address)


def test_transport_before_the_first_link_imports_no_nats_client() -> None:
    """Listing plugins and checking options stay cheap."""
    script = (
        "import sys; from gramian_nats.transport import NatsTransport;"
        "NatsTransport().check_options({'nats_hosts': 'a', 'nats_sec_token': 't'});"
        "heavy = {'nats', 'nkeys', 'numpy', 'aiohttp', 'cryptography'};"
        "sys.exit(heavy & set(sys.modules) and 'imported too much' or 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
