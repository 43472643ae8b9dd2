"""Logging in to real servers: what passes, and what the refused are told."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import nkeys
import pytest

from gramian.errors import TransportError, TransportRefused, TransportUnavailable
from gramian_local.nats_server import NatsServer
from gramian_nats.transport import NatsTransport

StartServer = Callable[..., NatsServer]
StartTls = Callable[..., str]
NewAuthority = Callable[[], Any]
NewOperator = Callable[[], Any]

PASSWORD, TOKEN = "correct-horse-battery", "staple-of-tokens"
SEED = nkeys.encode_seed(b"\x07" * 32, nkeys.PREFIX_BYTE_USER).decode()
OTHER_SEED = nkeys.encode_seed(b"\x08" * 32, nkeys.PREFIX_BYTE_USER).decode()
PUBLIC_KEY = nkeys.from_seed(SEED.encode()).public_key.decode()

BY_PASSWORD = f'authorization {{ user: "alice", password: "{PASSWORD}" }}'
BY_TOKEN = f'authorization {{ token: "{TOKEN}" }}'
BY_NKEY = f"authorization {{ users: [ {{ nkey: {PUBLIC_KEY} }} ] }}"

RIGHT: dict[str, dict[str, str]] = {
    BY_PASSWORD: {"nats_sec_user": "alice", "nats_sec_passwd": PASSWORD},
    BY_TOKEN: {"nats_sec_token": TOKEN},
    BY_NKEY: {"nats_sec_nkey_seed": SEED},
}
WRONG: dict[str, dict[str, str]] = {
    BY_PASSWORD: {"nats_sec_user": "alice", "nats_sec_passwd": "incorrect-horse"},
    BY_TOKEN: {"nats_sec_token": "another-token"},
    BY_NKEY: {"nats_sec_nkey_seed": OTHER_SEED},
}
WAYS = pytest.mark.parametrize("config", list(RIGHT), ids=["password", "token", "nkey"])


SCHEMES = pytest.mark.parametrize("scheme", ["tls", "wss"])


@pytest.fixture
def start_tls(start_server: StartServer, tmp_path: Path, free_port: Callable[[], int]) -> StartTls:
    """Starts a server that shows a certificate for localhost; returns its URL."""

    def start(scheme: str, authority: Any, *, verify: str = "") -> str:
        block = f"tls {{ {authority.server_config(tmp_path, 'localhost', verify=verify)} }}"
        if scheme == "tls":
            return f"tls://localhost:{start_server(config=block).port}"
        port = free_port()
        start_server(config=f"websocket {{ host: 127.0.0.1, port: {port}, {block} }}")
        return f"wss://localhost:{port}"

    return start


@WAYS
def test_login_right_opens(start_server: StartServer, transport: NatsTransport, fed_id: str, config: str) -> None:
    """Each way of login that a server may ask for works, through to the streams."""
    server = start_server(config=config)
    link = transport.open({"nats_hosts": server.url, **RIGHT[config]})
    link.create(fed_id, max_blob_bytes=2**20)
    assert link.cut(fed_id, []).roster is None
    link.close()


@WAYS
def test_login_wrong_is_refused_naming_its_keys(
    start_server: StartServer, transport: NatsTransport, caplog: pytest.LogCaptureFixture, config: str
) -> None:
    """The text says which options to check; neither it, its causes, nor the log hold a secret."""
    caplog.set_level(logging.DEBUG)
    server = start_server(config=config)
    login = WRONG[config]
    with pytest.raises(TransportRefused) as refused:
        transport.open({"nats_hosts": server.url, **login})
    assert f"127.0.0.1:{server.port}" in str(refused.value)
    assert all(key in str(refused.value) for key in login)
    told = _texts(refused.value) + caplog.text
    assert not any(value in told for key, value in login.items() if key != "nats_sec_user")


@WAYS
def test_login_missing_is_refused_naming_the_ways(
    start_server: StartServer, transport: NatsTransport, config: str
) -> None:
    """Who gave no login learns which options there are."""
    server = start_server(config=config)
    with pytest.raises(TransportRefused, match=r"set nats_sec_user and nats_sec_passwd, nats_sec_token, nats_sec"):
        transport.open({"nats_hosts": server.url})


def test_login_without_jetstream_is_refused(start_server: StartServer, transport: NatsTransport, fed_id: str) -> None:
    """An account for which JetStream is off cannot hold a federation, and the text says that."""
    server = start_server(config='accounts { A: { users: [ { user: "alice", password: "p" } ] } }')
    with pytest.raises(TransportRefused, match="JetStream"):
        transport.open({"nats_hosts": server.url, "nats_sec_user": "alice", "nats_sec_passwd": "p"}).create(
            fed_id, max_blob_bytes=2**20
        )


def test_login_without_permission_is_refused_at_once(
    start_server: StartServer, transport: NatsTransport, fed_id: str
) -> None:
    """A server that forbids a subject sends no answer; the error comes long before the timeout."""
    config = """authorization { users: [
        { user: "alice", password: "p", permissions: { publish: ["grm.>"], subscribe: ["_INBOX.>"] } } ] }"""
    server = start_server(config=config)
    link = transport.open({"nats_hosts": server.url, "nats_sec_user": "alice", "nats_sec_passwd": "p"})
    with pytest.raises(TransportRefused, match="does not let this login do that"):
        link.create(fed_id, max_blob_bytes=2**20)
    for _ in range(10):  # the refusal and the answer to what followed come at nearly the same time
        with pytest.raises(TransportRefused, match="does not let this login do that"):
            link.listen(fed_id, "ab", print)


def test_credentials_file_opens_until_it_expires(
    start_server: StartServer, transport: NatsTransport, new_operator: NewOperator, fed_id: str
) -> None:
    """A JWT account works through to the streams; an expired login ends the line and names its key."""
    operator = new_operator()
    server = start_server(config=operator.config())
    login = {"nats_sec_creds": operator.credentials(seconds=2), "nats_req_timeout": "3"}
    link = transport.open({"nats_hosts": server.url, **login})
    link.create(fed_id, max_blob_bytes=2**20)
    assert link.cut(fed_id, []).roster is None

    def use_until_refused() -> None:
        deadline = time.monotonic() + 30  # a machine may stand still for longer than the login lasts
        while time.monotonic() < deadline:
            with suppress(TransportUnavailable):  # the end of the connection may be seen before its reason
                link.cut(fed_id, [])
            time.sleep(0.1)

    with pytest.raises(TransportRefused, match="check nats_sec_creds"):
        use_until_refused()


@pytest.mark.parametrize("whose", ["nobody's", "a stranger's", "an expired"])
def test_credentials_file_wrong_is_refused(
    start_server: StartServer, transport: NatsTransport, new_operator: NewOperator, whose: str
) -> None:
    """The server checks what only it can; the text says which key to look at."""
    operator = new_operator()
    server = start_server(config=operator.config())
    login = {
        "nobody's": {},
        "a stranger's": {"nats_sec_creds": new_operator().credentials()},
        "an expired": {"nats_sec_creds": operator.credentials(seconds=-60)},
    }[whose]
    with pytest.raises(TransportRefused, match="nats_sec_creds"):
        transport.open({"nats_hosts": server.url, **login})


@SCHEMES
def test_tls_private_authority_is_trusted_when_named(
    start_tls: StartTls, transport: NatsTransport, new_authority: NewAuthority, fed_id: str, scheme: str
) -> None:
    """Through to the streams; without it, or with another, the text names nats_tls_ca."""
    authority = new_authority()
    url = start_tls(scheme, authority)
    with pytest.raises(TransportRefused, match=r"cannot be trusted: .*set nats_tls_ca"):
        transport.open({"nats_hosts": url})
    with pytest.raises(TransportRefused, match=r"cannot be trusted: .*check nats_tls_ca"):
        transport.open({"nats_hosts": url, "nats_tls_ca": new_authority().pem})
    link = transport.open({"nats_hosts": url, "nats_tls_ca": new_authority().pem + authority.pem})
    link.create(fed_id, max_blob_bytes=2**22)
    chunks = [bytes([index]) * link.chunk_bytes for index in range(3)]
    link.put_blob(fed_id, "ab", "01", chunks)
    assert link.get_blob(fed_id, "ab", "01", 3, max_bytes=2**22) == chunks


@SCHEMES
def test_tls_certificate_of_another_name_is_refused(
    start_tls: StartTls, transport: NatsTransport, new_authority: NewAuthority, scheme: str
) -> None:
    """The name in nats_hosts is checked, though an address is called."""
    authority = new_authority()
    url = start_tls(scheme, authority).replace("localhost", "127.0.0.1")
    with pytest.raises(TransportRefused, match=r"cannot be trusted: .*nats_tls_ca"):
        transport.open({"nats_hosts": url, "nats_tls_ca": authority.pem})


@SCHEMES
def test_tls_client_certificate_is_asked_for_by_name(
    start_tls: StartTls, transport: NatsTransport, new_authority: NewAuthority, scheme: str
) -> None:
    """The right one opens; none, and one that the server does not know, are told which keys to look at."""
    authority, clients = new_authority(), new_authority()
    options = {"nats_hosts": start_tls(scheme, authority, verify=clients.pem), "nats_tls_ca": authority.pem}
    with pytest.raises(TransportError, match="set nats_tls_cert and nats_tls_key"):
        transport.open(options)
    stranger, strangers_key = new_authority().issue("node")
    with pytest.raises(TransportError, match="check nats_tls_cert and nats_tls_key"):
        transport.open({**options, "nats_tls_cert": stranger, "nats_tls_key": strangers_key})
    certificate, key = clients.issue("node")
    transport.open({**options, "nats_tls_cert": certificate, "nats_tls_key": key}).close()


def test_tls_authority_of_the_system_is_trusted(
    start_tls: StartTls,
    transport: NatsTransport,
    new_authority: NewAuthority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without nats_tls_ca the system decides; nats:// speaks TLS too where the server asks for it."""
    authority = new_authority()
    url = start_tls("tls", authority)
    (tmp_path / "ca.pem").write_text(authority.pem)
    monkeypatch.setenv(ssl.get_default_verify_paths().openssl_cafile_env, str(tmp_path / "ca.pem"))
    transport.open({"nats_hosts": url}).close()
    transport.open({"nats_hosts": url.replace("tls://", "nats://")}).close()
    with pytest.raises(TransportRefused, match="cannot be trusted"):
        transport.open({"nats_hosts": url, "nats_tls_ca": new_authority().pem})


def test_websocket_that_is_none_says_so(
    start_server: StartServer, transport: NatsTransport, new_authority: NewAuthority
) -> None:
    """A port that speaks no TLS at all."""
    with pytest.raises(TransportError, match="does not agree on TLS"):
        transport.open({"nats_hosts": f"wss://localhost:{start_server().port}", "nats_tls_ca": new_authority().pem})


def test_tls_asked_for_and_not_offered_sends_no_login(
    pretend_server: Callable[..., Any], transport: NatsTransport
) -> None:
    """Somebody in between who hides the server's TLS gets neither a CONNECT nor a password."""
    server = pretend_server({"version": "2.15.0", "jetstream": True, "max_payload": 2**20, "auth_required": True})
    with pytest.raises(TransportRefused, match="does not offer TLS"):
        transport.open({"nats_hosts": f"tls://127.0.0.1:{server.port}", "nats_sec_token": TOKEN})
    assert server.received == b""


def _texts(error: BaseException | None) -> str:
    """The texts of an error and of everything that it came from."""
    if error is None:
        return ""
    return f"{error!r} {error} {_texts(error.__cause__)} {_texts(error.__context__)}"
