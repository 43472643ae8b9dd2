"""The options of the NATS transport: which keys there are, what they may hold, and what to do when they don't."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from gramian.domain.addresses import is_forbidden
from gramian.errors import InvalidRequest
from gramian.options import whole_number
from gramian_nats import member_logins
from gramian_nats.credentials import authorities, client_certificate, credentials, subject_of, user_seed
from gramian_nats.member_logins import FROM_REDEMPTION, LOGIN_OPTIONS

MAX_HOSTS = 16
MAX_SECRET_CHARS = 4_096
REPLICAS = (1, 3, 5)
SECRET_OPTIONS = frozenset(
    {
        "nats_sec_passwd",
        "nats_sec_token",
        "nats_sec_nkey_seed",
        "nats_sec_creds",
        "nats_tls_key",
        member_logins.OPTION,
    }
)
"""Never shown, and sealed at rest."""

_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_LOGIN_KEYS = "nats_sec_user and nats_sec_passwd, nats_sec_token, nats_sec_nkey_seed, or nats_sec_creds"
_CERT_KEYS = "nats_tls_cert and nats_tls_key"
_DEFAULT_PORTS = {"nats": 4222, "tls": 4222, "wss": 443}


@dataclass(frozen=True, slots=True)
class Host:
    """One server: `scheme` is nats (TLS if the server asks for it), tls or wss (never without)."""

    scheme: str
    name: str
    port: int

    @property
    def address(self) -> str:
        """host:port, an IPv6 host in brackets."""
        return f"{_bracketed(self.name)}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.address}"

    def url_at(self, ip: str) -> str:
        """The URL with the name replaced by the address it was resolved to; a WebSocket needs the name itself."""
        if self.scheme == "wss":
            return self.url
        return f"{self.scheme}://{_bracketed(ip)}:{self.port}"


@dataclass(frozen=True, slots=True)
class NatsOptions:
    """Checked options. Equal options may share connections; `repr` shows no secret."""

    hosts: tuple[Host, ...]
    user: str | None
    password: str | None = field(repr=False)
    token: str | None = field(repr=False)
    nkey_seed: str | None = field(repr=False)
    creds: str | None = field(repr=False)
    tls_ca: str | None = field(repr=False)
    tls_cert: str | None = field(repr=False)
    tls_key: str | None = field(repr=False)
    member_logins: str | None = field(repr=False)
    is_login_shared: bool
    timeout_s: int
    max_memory_bytes: int
    replicas: int

    @property
    def has_login(self) -> bool:
        return any((self.user, self.token, self.nkey_seed, self.creds))

    @property
    def name(self) -> str | None:
        """What the server knows this node by, if its login says so."""
        return self.user if self.creds is None else subject_of(self.creds)

    @property
    def login_hint(self) -> str:
        """What to do when the server refuses the login."""
        if self.user is not None:
            return "check nats_sec_user and nats_sec_passwd"
        if self.token is not None:
            return "check nats_sec_token"
        if self.nkey_seed is not None:
            return "check nats_sec_nkey_seed"
        if self.creds is not None:
            return "check nats_sec_creds"
        if self.tls_cert is not None:
            return f"check {_CERT_KEYS}, or set {_LOGIN_KEYS}"
        return f"set {_LOGIN_KEYS}"

    @property
    def ca_hint(self) -> str:
        """What to do when the server's certificate does not convince."""
        if self.tls_ca is not None:
            return "check nats_tls_ca"
        return "check nats_hosts, and set nats_tls_ca if its certificate is from a private CA"

    @property
    def cert_hint(self) -> str:
        """What to do when the server does not go on with TLS."""
        return f"{'check' if self.tls_cert is not None else 'set'} {_CERT_KEYS}"

    def as_mapping(self) -> dict[str, str]:
        """The normalised options under their keys, absent ones left out."""
        values = {
            "nats_hosts": ",".join(host.url for host in self.hosts),
            "nats_sec_user": self.user,
            "nats_sec_passwd": self.password,
            "nats_sec_token": self.token,
            "nats_sec_nkey_seed": self.nkey_seed,
            "nats_sec_creds": self.creds,
            "nats_tls_ca": self.tls_ca,
            "nats_tls_cert": self.tls_cert,
            "nats_tls_key": self.tls_key,
            member_logins.OPTION: self.member_logins,
            "nats_sec_shared": None if self.is_login_shared else "false",
            "nats_req_timeout": str(self.timeout_s),
            "nats_stream_max_memory": str(self.max_memory_bytes),
            "nats_stream_replicas": str(self.replicas),
        }
        return {key: value for key, value in values.items() if value is not None}

    def shared(self) -> dict[str, str]:
        """What other nodes may have of these options: never the client certificate, which says who this node is."""
        own = {"nats_tls_cert", "nats_tls_key", member_logins.OPTION}
        if self.member_logins is not None or not self.is_login_shared:
            own.update(LOGIN_OPTIONS)
        kept = {key: value for key, value in self.as_mapping().items() if key not in own}
        return kept if self.member_logins is None else {**kept, member_logins.OPTION: FROM_REDEMPTION}


def parse_options(options: Mapping[str, str]) -> NatsOptions:
    """Check the keys of this transport; an empty text counts as absent, other keys are ignored.

    Raises InvalidRequest with a text that names the key and the remedy, and never a secret's value.
    """
    hosts = _hosts(options.get("nats_hosts", ""))
    user, password = _secret(options, "nats_sec_user"), _secret(options, "nats_sec_passwd")
    token, seed = _secret(options, "nats_sec_token"), _secret(options, "nats_sec_nkey_seed")
    creds = options.get("nats_sec_creds") or None
    if (user is None) != (password is None):
        raise InvalidRequest("nats_sec_user and nats_sec_passwd go together: give both or neither")
    if sum(value is not None for value in (user, token, seed, creds)) > 1:
        raise InvalidRequest(f"Give one way of login only: {_LOGIN_KEYS}")
    logins = options.get(member_logins.OPTION) or None
    if logins is not None:
        logins = member_logins.checked(logins)
    if logins == FROM_REDEMPTION and any((user, token, seed, creds)):
        raise InvalidRequest("this federation gives each member a login when it joins: leave nats_sec_... out")
    tls_ca, tls_cert, tls_key = _tls(options, hosts)
    return NatsOptions(
        hosts=hosts,
        user=user,
        password=password,
        token=token,
        nkey_seed=None if seed is None else user_seed(seed),
        creds=None if creds is None else credentials(creds),
        tls_ca=tls_ca,
        tls_cert=tls_cert,
        tls_key=tls_key,
        member_logins=logins,
        is_login_shared=_is_login_shared(options),
        timeout_s=whole_number(options, "nats_req_timeout", 30, low=1, high=600),
        max_memory_bytes=whole_number(options, "nats_stream_max_memory", 2**30, low=2**20, high=2**40),
        replicas=_replicas(options),
    )


def _tls(options: Mapping[str, str], hosts: tuple[Host, ...]) -> tuple[str | None, str | None, str | None]:
    """The checked texts of nats_tls_ca, nats_tls_cert and nats_tls_key."""
    given = {key: options.get(key) or None for key in ("nats_tls_ca", "nats_tls_cert", "nats_tls_key")}
    named = [key for key, value in given.items() if value is not None]
    if named and any(host.scheme == "nats" for host in hosts):
        # Whoever names a CA expects TLS, which nats:// leaves to the server.
        raise InvalidRequest(f"{named[0]} needs tls:// or wss:// before every server in nats_hosts")
    ca, certificate, key = given.values()
    if (certificate is None) != (key is None):
        raise InvalidRequest(f"{_CERT_KEYS} go together: give both or neither")
    if certificate is not None and key is not None:
        certificate, key = client_certificate(certificate, key)
    return None if ca is None else authorities(ca), certificate, key


def _is_login_shared(options: Mapping[str, str]) -> bool:
    text = (options.get("nats_sec_shared") or "true").lower()
    if text not in ("true", "false"):
        raise InvalidRequest("nats_sec_shared must be true or false: whether invitations carry this node's login")
    return text == "true"


def _replicas(options: Mapping[str, str]) -> int:
    count = whole_number(options, "nats_stream_replicas", 1, low=1, high=max(REPLICAS))
    if count not in REPLICAS:
        raise InvalidRequest("nats_stream_replicas must be 1, 3 or 5: an even number survives no more than one less")
    return count


def _secret(options: Mapping[str, str], key: str) -> str | None:
    value = options.get(key) or None
    if value is not None and (len(value) > MAX_SECRET_CHARS or not value.isprintable()):
        raise InvalidRequest(f"{key} must be at most {MAX_SECRET_CHARS} printable characters")
    return value


def _hosts(text: str) -> tuple[Host, ...]:
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    if not entries:
        raise InvalidRequest("nats_hosts is missing: give the NATS servers, such as nats://nats.example.org:4222")
    if len(entries) > MAX_HOSTS:
        raise InvalidRequest(f"nats_hosts may name at most {MAX_HOSTS} servers")
    return tuple(dict.fromkeys(_host(entry) for entry in entries))


def _host(entry: str) -> Host:
    if "@" in entry:  # first of all, so that no text below can echo a login
        raise InvalidRequest(f"nats_hosts must not hold a login: use {_LOGIN_KEYS}")
    bad = InvalidRequest(
        f"nats_hosts: {entry[:80]!r} is not host:port, nats://host:port, tls://host:port or wss://host"
    )
    if not entry.isprintable() or " " in entry:  # urlsplit would drop some of these
        raise bad
    try:
        parts = urlsplit(entry if "://" in entry else f"nats://{entry}")
        port = _DEFAULT_PORTS.get(parts.scheme, 0) if parts.port is None else parts.port
        host = Host(parts.scheme, parts.hostname or "", port)
    except ValueError:
        raise bad from None
    if host.scheme == "ws":
        raise InvalidRequest("nats_hosts: WebSockets without TLS are not supported; use wss://")
    if host.scheme not in _DEFAULT_PORTS or host.port == 0 or _has_more_than_a_host(parts):
        raise bad
    if host.scheme == "wss" and find_spec("aiohttp") is None:
        raise InvalidRequest("nats_hosts: wss:// needs the extra nats-ws on this node: pip install 'gramian[nats-ws]'")
    if not _is_name_or_ip(host.name):
        raise bad
    return host


def _has_more_than_a_host(parts: SplitResult) -> bool:
    return bool(parts.path.strip("/") or parts.query or parts.fragment)


def _is_name_or_ip(name: str) -> bool:
    """Raises InvalidRequest for a literal address that is off limits; names are checked once resolved."""
    try:
        ip_address(name)
    except ValueError:
        return bool(_HOST_NAME.fullmatch(name))
    if is_forbidden(name):
        raise InvalidRequest(f"nats_hosts: {name} is a link-local or metadata address, which is not allowed")
    return True


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
