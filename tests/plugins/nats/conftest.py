"""Servers to test against: real ones with their own settings, and ones that misbehave."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import nats
import nkeys
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gramian.client import Client
from gramian.http.app import full_app
from gramian.node import Node
from gramian.settings import Settings
from gramian.usecases import users
from gramian_local import wsgi
from gramian_local.nats_server import NatsServer
from gramian_local.node import opened
from gramian_nats.transport import NatsTransport


@pytest.fixture
def transport() -> Iterator[NatsTransport]:
    transport = NatsTransport()
    yield transport
    transport.close()


@pytest.fixture
def fed_id() -> str:
    return secrets.token_hex(16)


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., NatsServer]]:
    """Starts nats-servers (keywords of `NatsServer.start`) that stop when the test ends."""
    servers: list[NatsServer] = []

    def start(**settings: Any) -> NatsServer:
        servers.append(NatsServer.start(tmp_path / f"nats{len(servers)}", **settings))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@dataclass(frozen=True)
class Site:
    """One organisation: its node, served over HTTP, and a client of its user."""

    name: str
    node: Node
    url: str
    client: Client

    def create(self, pid: str = "study", **keys: Any) -> None:
        wanted = {"fed_name": "study", "sync_sched": "m30", "nats_stream_max_memory": 4 * 2**20, **keys}
        self.client.create_federation(pid, **wanted)

    def invite(self, pid: str = "study") -> dict[str, Any]:
        return self.client.invite(pid, secrets.token_hex(8), self.url)

    def learn(self, rows: int, pid: str = "study") -> None:
        """Rows that are this site's own: equal ones at two sites would hide that one of them is missing."""
        values = np.random.default_rng(sum(self.name.encode()) + rows).normal(size=(rows, 3))
        self.client.learn(pid, ["a", "b", "c"], "CCC", values)

    def params(self, pid: str = "study") -> dict[str, str]:
        return self.client.project_info(pid)["params"]


@contextmanager
def serving(home: Path, name: str) -> Iterator[Site]:
    with opened(Settings(), home) as (node, _):
        key = users.create(node, name)
        server = wsgi.Server(full_app(node), "127.0.0.1", 0, body_limit_bytes=2**26)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.port}"
        try:
            yield Site(name, node, url, Client(url, name, key))
        finally:
            server.stop()
            thread.join(10)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Callable[[str], Site]]:
    """Makes sites that end with the test."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(serving(tmp_path / name, name))


@pytest.fixture
def assert_converged() -> Callable[..., None]:
    """Everyone has merged the same inputs, of so many rows, to the same bits."""

    def check(sites: Sequence[Site], rows: int, pid: str = "study") -> None:
        params = [each.params(pid) for each in sites]
        assert {each["fed_rows"] for each in params} == {str(rows)}
        assert len({each["fed_inputs"] for each in params}) == 1
        assert len({each["fed_digest"] for each in params}) == 1

    return check


class Authority:
    """A private CA."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"CA {secrets.token_hex(4)}")])
        made = self._builder(self._name, self._key.public_key())
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.pem = _pem(made.sign(self._key, hashes.SHA256()))

    def issue(self, *names: str) -> tuple[str, str]:
        """The PEM texts of a certificate for hosts of these names or addresses, and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        made = self._builder(subject, key.public_key()).add_extension(alternatives, critical=False)
        return _pem(made.sign(self._key, hashes.SHA256())), _pem(key)

    @staticmethod
    def locked(key: str) -> str:
        """The same key, encrypted with a passphrase."""
        loaded = serialization.load_pem_private_key(key.encode(), None)
        how = serialization.BestAvailableEncryption(b"passphrase")
        return loaded.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how).decode()

    def server_config(self, directory: Path, *names: str, verify: str = "") -> str:
        """The inside of a `tls` block of a server that shows a certificate for these names.

        `verify`: the PEM text of the CA whose clients alone are let in.
        """
        certificate, key = self.issue(*names)
        files = {"cert_file": certificate, "key_file": key, **({"ca_file": verify} if verify else {})}
        lines = ["verify: true" if verify else "verify: false"]
        for option, text in files.items():
            path = directory / f"{secrets.token_hex(4)}.pem"
            path.write_text(text)
            lines.append(f'{option}: "{path}"')
        return "\n".join(lines)

    def _builder(self, subject: x509.Name, key: Any) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=key,
            serial_number=x509.random_serial_number(),
            not_valid_before=now - timedelta(days=1),
            not_valid_after=now + timedelta(days=1),
        )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(what: Any) -> str:
    pem = serialization.Encoding.PEM
    if isinstance(what, x509.Certificate):
        return what.public_bytes(pem).decode()
    return what.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


@pytest.fixture(scope="session")
def new_authority() -> Callable[[], Authority]:
    return Authority


class Operator:
    """Signs JWTs, as an operator of NATS does with `nsc`: one account with JetStream, and its users."""

    _LIMITS = dict.fromkeys(("subs", "data", "payload"), -1)
    _ACCOUNT_LIMITS = dict.fromkeys(("imports", "exports", "conn", "leaf"), -1)
    _JETSTREAM = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)

    def __init__(self) -> None:
        self._operator = _key_pair(nkeys.PREFIX_BYTE_OPERATOR)
        self._account = _key_pair(nkeys.PREFIX_BYTE_ACCOUNT)
        self._system = _key_pair(nkeys.PREFIX_BYTE_ACCOUNT)

    @property
    def account(self) -> str:
        """The account's id."""
        return _public(self._account)

    @property
    def account_seed(self) -> str:
        return self._account.seed.decode()

    def config(self, *, resolver: str = "MEMORY", **about: Any) -> str:
        """The configuration of a server that trusts this operator; `about` as for `account_jwt`."""
        system, limits = _public(self._system), {**self._LIMITS, **self._ACCOUNT_LIMITS, "wildcards": True}
        without = _jwt(self._operator, system, {"type": "account", "limits": limits})
        return f"""
            operator: {_jwt(self._operator, _public(self._operator), {"type": "operator"})}
            system_account: {system}
            resolver: {resolver}
            resolver_preload: {{ {self.account}: {self.account_jwt(**about)}, {system}: {without} }}"""

    def account_jwt(self, *, signing_keys: Sequence[str] = (), revoked: Mapping[str, int] | None = None) -> str:
        """`signing_keys`: other keys that sign for the account. `revoked`: users by id, and the time from before which
        their JWTs are void."""
        limits = {**self._LIMITS, **self._ACCOUNT_LIMITS, "wildcards": True, **self._JETSTREAM}
        more = {"signing_keys": list(signing_keys), "revocations": dict(revoked or {})}
        return _jwt(self._operator, self.account, {"type": "account", "limits": limits, **more})

    def credentials(self, *, seconds: float | None = None, system: bool = False) -> str:
        """The text of a new user's credentials file, good for so many seconds; of the system's account if asked."""
        account = self._system if system else self._account
        seed = nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER)
        user = _public(nkeys.from_seed(bytearray(seed)))
        expiry = {} if seconds is None else {"exp": int(time.time() + seconds)}
        jwt = _jwt(account, user, {"type": "user", "pub": {}, "sub": {}, **self._LIMITS}, **expiry)
        return (
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            "************************* IMPORTANT *************************\nNKEY Seed printed below.\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{seed.decode()}\n------END USER NKEY SEED------\n\n"
            "*************************************************************\n"
        )


def _key_pair(kind: int) -> nkeys.KeyPair:
    return nkeys.from_seed(bytearray(nkeys.encode_seed(secrets.token_bytes(32), kind)))


def _public(pair: nkeys.KeyPair) -> str:
    return pair.public_key.decode()


def _jwt(signer: nkeys.KeyPair, subject: str, claims: dict[str, Any], **more: Any) -> str:
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    about = {"jti": secrets.token_hex(16), "iat": int(time.time()), "iss": _public(signer), "sub": subject, **more}
    text = part({"typ": "JWT", "alg": "ed25519-nkey"}) + "." + part({**about, "nats": {**claims, "version": 2}})
    return text + "." + base64.urlsafe_b64encode(signer.sign(text.encode())).decode().rstrip("=")


@pytest.fixture(scope="session")
def new_operator() -> Callable[[], Operator]:
    return Operator


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Ports that nothing listens on, where a server cannot choose its own."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find


@pytest.fixture
def start_cluster(start_server: Callable[..., NatsServer], free_port: Callable[[], int]) -> Callable[..., Any]:
    """Starts three servers, named s0 to s2, each with routes to all; they need a while to find each other."""

    def start(config: str = "") -> list[NatsServer]:
        ports = [free_port() for _ in range(3)]
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
        return [
            start_server(
                config=f"""
                    server_name: s{number}
                    cluster {{ name: grm, listen: "127.0.0.1:{port}", routes: [{routes}] }}
                    {config}""",
                max_memory_bytes=2**28,
            )
            for number, port in enumerate(ports)
        ]

    return start


@pytest.fixture
def raw_request() -> Callable[..., dict[str, Any]]:
    """One request by nats-py alone, as a stranger with the right credentials would send it."""

    def request(url: str, subject: str, data: bytes, headers: dict[str, str] | None = None) -> dict[str, Any]:
        async def ask() -> dict[str, Any]:
            client = await nats.connect(url, allow_reconnect=False)
            try:
                return json.loads((await client.request(subject, data, timeout=5, headers=headers)).data)
            finally:
                await client.close()

        return asyncio.run(ask())

    return request


@pytest.fixture
def raw_store() -> Callable[..., None]:
    """Stores a message with headers, and under a subject (as Latin-1), that no client library sends."""

    def store(port: int, subject: str, block: bytes, data: bytes) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
            about = b"HPUB %b stored %d %d\r\n" % (subject.encode("latin-1"), len(block), len(block) + len(data))
            line.sendall(
                b'CONNECT {"verbose":false,"headers":true}\r\nSUB stored 1\r\n' + about + block + data + b"\r\n"
            )
            received = b""
            while b'"seq":' not in received:
                received += line.recv(65_536)

    return store


class Listening:
    """A server on loopback that hands each connection to `serve` in a thread."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        self._lock = threading.Lock()
        self._is_closed = False
        self._connections: list[socket.socket] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            sockets = [self._socket, *self._connections]
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with self._lock:
                if self._is_closed:
                    connection.close()
                    return
                self._connections.append(connection)
            threading.Thread(target=self._guarded, args=(connection,), daemon=True).start()

    def _guarded(self, connection: socket.socket) -> None:
        with suppress(OSError):
            self._serve(connection)


class PretendServer(Listening):
    """Sends an INFO line, answers the first PING if asked to, and is silent from then on, or deaf too."""

    def __init__(self, info: dict[str, Any] | None, *, answers_ping: bool = True, stops_reading: bool = False) -> None:
        self.received = bytearray()
        self._info = info
        self._answers_ping = answers_ping
        self._stops_reading = stops_reading
        super().__init__(self._converse)

    def _converse(self, connection: socket.socket) -> None:
        if self._info is not None:
            connection.sendall(b"INFO " + json.dumps(self._info).encode() + b"\r\n")
        while data := connection.recv(65_536):
            self.received += data
            if b"PING\r\n" in data and self._answers_ping:
                self._answers_ping = False
                connection.sendall(b"PONG\r\n")
                if self._stops_reading:
                    return


@pytest.fixture
def listening() -> Iterator[type[Listening]]:
    """A class to make servers of, which are closed when the test ends."""
    started: list[Listening] = []

    class Kept(Listening):
        def __init__(self, serve: Callable[[socket.socket], None]) -> None:
            super().__init__(serve)
            started.append(self)

    yield Kept
    for each in started:
        each.close()


@pytest.fixture
def pretend_server() -> Iterator[Callable[..., PretendServer]]:
    servers: list[PretendServer] = []

    def start(info: dict[str, Any] | None, **settings: Any) -> PretendServer:
        servers.append(PretendServer(info, **settings))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


class LossyProxy(Listening):
    """Passes everything on until `lose_next` is set: then one exchange is lost and the connection ends."""

    def __init__(self, port: int) -> None:
        self.lose_next: str | None = None  # "request" or "reply"
        self.before_loss: Callable[[], object] = lambda: None
        self._port = port
        super().__init__(self._pass_on)

    def _pass_on(self, client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self._port)) as server:
            threading.Thread(target=self._pass_back, args=(server, client), daemon=True).start()
            with suppress(OSError):
                while data := client.recv(65_536):
                    if self.lose_next == "request":
                        self._lose(client)
                        return
                    server.sendall(data)

    def _pass_back(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65_536):
                if self.lose_next == "reply":
                    self._lose(client)
                    return
                client.sendall(data)

    def _lose(self, client: socket.socket) -> None:
        self.lose_next = None
        self.before_loss()
        client.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def lossy_proxy(nats_server: NatsServer) -> Iterator[LossyProxy]:
    """Stands between a link and the shared server."""
    proxy = LossyProxy(nats_server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def slow_proxy(nats_server: NatsServer, proxy_to: Callable[..., Any]) -> Any:
    """Stands between nodes and the shared server."""
    return proxy_to(nats_server.port, "nats")
