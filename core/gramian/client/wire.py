"""One request and its answer: signing, sealing, HTTP, and the envelope."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlsplit

from gramian.client.errors import BadReply, Unreachable, refusal
from gramian.domain import jsonio, sealing, signing
from gramian.domain.sealing import Scheme
from gramian.errors import BadSeal, InvalidRequest

MAX_REPLY_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Reply:
    """A good answer. `path`: what the request signed, which sealed parts of the answer are bound to."""

    http_status: int
    values: Mapping[str, Any]
    job_id: str | None
    path: str

    def text(self, *keys: str) -> str:
        """The first of `keys` among the values that is text. Raises BadReply, as the others."""
        for key in keys:
            if isinstance(value := self.values.get(key), str):
                return value
        raise BadReply(f"the answer has no {keys[0]}")

    def mapping(self, key: str) -> dict[str, Any]:
        value = self.values.get(key)
        if not isinstance(value, dict):
            raise BadReply(f"the answer has no {key}")
        return value

    def strings(self) -> list[str]:
        """A StringList in either of its two forms."""
        value = self.values.get("stringList")
        if isinstance(value, Mapping):
            value = value.get("values")
        if not isinstance(value, list):
            raise BadReply("the answer has no stringList")
        return value


class Wire:
    """The way to one server as one user; safe to share between threads, every request has its own connection."""

    def __init__(
        self, url: str, cid: str, secret_key: str, *, timeout_s: float, scheme: Scheme, clock_ns: Callable[[], int]
    ) -> None:
        """Raises ValueError for a malformed url, InvalidRequest for a malformed key."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("url must look like http://host:port")
        self.secret_key = secret_key
        self.scheme = scheme
        self._kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._host, self._port, self._prefix = parts.hostname, parts.port, parts.path.rstrip("/")
        self._cid = cid
        self._key = signing.decode_secret(secret_key)
        self._timeout_s = timeout_s
        self._clock_ns = clock_ns
        self._last_ns = 0
        self._lock = threading.Lock()

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | bool],
        *,
        body: Mapping[str, Any] | None,
        sealed: Mapping[str, Any] | None,
        headers: Mapping[str, str],
    ) -> Reply:
        """`path` is what follows the customer's id, escaped. Raises ClientError."""
        path = f"/symetry/rest/{segment(self._cid)}{path}"
        content = b"" if body is None else jsonio.dumps(body)
        if sealed is not None:
            content = self._sealed(method, path, sealed)
        target = signing.Target(path, _encoded(query))
        url = self._prefix + (f"{path}?{target.query}" if target.query else path)
        http_status, job_id, data = self._exchange(
            method, url, content, {**self._signed(method, target, content), **headers}
        )
        return Reply(http_status, _values(http_status, data), job_id, path)

    def opened(self, reply: Reply, text: str) -> dict[str, Any]:
        """A sealed entity of the answer to a GET; a v2 client takes no v1, so nobody on the way can weaken it."""
        try:
            plaintext, _ = sealing.open_body(
                text.encode(),
                self._key,
                method="GET",
                cid=self._cid,
                path=reply.path,
                require_v2=self.scheme is Scheme.V2,
            )
            return json_map(plaintext)
        except (BadSeal, InvalidRequest) as error:
            raise BadReply(f"the answer cannot be opened: {error}") from None

    def _sealed(self, method: str, path: str, value: Mapping[str, Any]) -> bytes:
        return sealing.seal_body(
            jsonio.dumps(dict(value)),
            self._key,
            self.scheme,
            secrets.token_bytes,
            method=method,
            cid=self._cid,
            path=path,
        ).encode()

    def _signed(self, method: str, target: signing.Target, content: bytes) -> dict[str, str]:
        request = signing.Signable.of(method, signing.format_sym_date(self._unique_ns()), self._cid, content)
        headers = {
            "Authorization": signing.sign(self.secret_key, request, target),
            "Sym-date": request.sym_date,
            "Content-MD5": request.content_md5,
            "Customer-ID": self._cid,
            "sym-version": "6.3",
            "Accept": "application/json; strict=1",
            "Connection": "close",
        }
        if content:
            headers["Content-Type"] = "application/json"
        return headers

    def _unique_ns(self) -> int:
        """The time, never the same twice: servers take each signature once."""
        with self._lock:
            self._last_ns = max(self._clock_ns(), self._last_ns + 1)
            return self._last_ns

    def _exchange(
        self, method: str, url: str, content: bytes, headers: Mapping[str, str]
    ) -> tuple[int, str | None, bytes]:
        """HTTP status, job id if a job was made, and body. Redirects are not followed."""
        connection = self._kind(self._host, self._port, timeout=self._timeout_s)
        try:
            # A server that refuses early closes while the body is on its way: its answer may be there all the same.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, url, content or None, dict(headers))
            with connection.getresponse() as response:
                return response.status, response.headers.get("sym-job-id"), _read(response)
        except (OSError, HTTPException) as error:
            raise Unreachable(f"no answer from {self._host}: {error or type(error).__name__}") from error
        finally:
            connection.close()


def segment(text: str) -> str:
    """`text` as one segment of a path."""
    return quote(text, safe="")


def json_map(data: bytes) -> dict[str, Any]:
    """Raises InvalidRequest for anything else."""
    value = jsonio.loads(data, unique_keys=True)
    if not isinstance(value, dict):
        raise InvalidRequest("it is not a JSON map")
    return value


def _encoded(query: Mapping[str, str | bool]) -> str:
    texts = {name: str(value).lower() if isinstance(value, bool) else value for name, value in query.items()}
    return "&".join(f"{quote(name, safe='')}={quote(text, safe='')}" for name, text in texts.items())


def _read(response: HTTPResponse) -> bytes:
    data = response.read(MAX_REPLY_BYTES + 1)
    if len(data) > MAX_REPLY_BYTES:
        raise BadReply(f"the answer is larger than {MAX_REPLY_BYTES} bytes")
    return data


def _values(http_status: int, data: bytes) -> Mapping[str, Any]:
    """The values of a good envelope. Raises the RequestFailed that a bad one is."""
    try:
        envelope = jsonio.loads(data)
        code, text, values = envelope["statusCode"], envelope["statusString"], envelope.get("values") or {}
    except (InvalidRequest, KeyError, TypeError, AttributeError):
        if http_status < 400:
            raise BadReply("the answer is no JSON envelope") from None
        code, text, values = str(http_status), f"the server answered with HTTP status {http_status}", {}
    if http_status < 300 and isinstance(values, Mapping):
        return values
    raise refusal(http_status, str(code), str(text))
