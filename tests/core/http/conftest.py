"""A small app behind the real edge, and a sender that signs as clients do."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from flask import Blueprint, Flask, Response, g
from werkzeug.test import TestResponse

from gramian.domain import signing
from gramian.errors import StoreError
from gramian.http import auth, errors
from gramian.http.envelope import respond
from gramian.http.request import current
from gramian.settings import Settings

SECRET = base64.b64encode(b"sixteen byte key").decode()
LIMIT = 10_000


class MemoryTokens:
    """A token store in a dictionary; `down` makes it fail."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[bytes, float]] = {}
        self.down = False

    def _live(self, key: str, now: float) -> bytes | None:
        value, expires_at = self.held.get(key, (None, 0.0))
        return value if expires_at > now else None

    def claim(self, key: str, value: bytes, *, now: float, expires_at: float) -> bytes | None:
        if self.down:
            raise StoreError("disk /var/secret/place is full")
        if (holder := self._live(key, now)) is None:
            self.held[key] = (value, expires_at)
        return holder

    def replace(self, key: str, value: bytes, *, expect: bytes, now: float, expires_at: float) -> bool:
        if self._live(key, now) != expect:
            return False
        self.held[key] = (value, expires_at)
        return True

    def release(self, key: str, *, expect: bytes) -> bool:
        if self.held.get(key, (None, 0))[0] != expect:
            return False
        del self.held[key]
        return True

    def close(self) -> None: ...


@dataclass
class Edge:
    """The app, what it stands on, and `send`."""

    app: Flask
    tokens: MemoryTokens
    secret: str = SECRET
    limit: int = LIMIT
    now_s: float = 1_800_000_000.25
    count: int = 0
    handlers: dict[str, Callable[[], Response]] = field(default_factory=dict)

    def date(self) -> str:
        """A sym-date of now that was not used before."""
        self.count += 1
        return signing.format_sym_date(int(self.now_s) * 1_000_000_000 + self.count)

    def headers(
        self,
        method: str = "GET",
        resource: str = "/symetry/rest/c1/things",
        query: str = "",
        body: bytes = b"",
        *,
        cid: str = "c1",
        date: str | None = None,
        secret: str | None = None,
    ) -> dict[str, str]:
        request = signing.Signable.of(method, date or self.date(), cid, body)
        signature = signing.sign(secret or self.secret, request, signing.Target(resource, query))
        return {
            "Authorization": signature,
            "Sym-date": request.sym_date,
            "Content-MD5": request.content_md5,
            "Customer-ID": cid,
        }

    def send(
        self,
        method: str = "GET",
        path: str = "/symetry/rest/c1/things",
        query: str = "",
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        **more: str,
    ) -> TestResponse:
        """Sign and send; `headers` replace the signed ones, or remove them where None."""
        signed = self.headers(method, path, query, body) if headers is None else headers
        sent = {name: value for name, value in {**signed, **more}.items() if value is not None}
        url = f"{path}?{query}" if query else path
        return self.app.test_client().open(url, method=method, data=body or None, headers=sent)

    def call(self, run: Callable[[], Response], **request: object) -> TestResponse:
        """Send a POST that `run` answers."""
        self.handlers["run"] = run
        return self.send("POST", **request)


def build(require_v2: bool = False) -> Edge:
    app = Flask("edge")
    edge = Edge(app, MemoryTokens())
    things = Blueprint("things", __name__, url_prefix="/symetry/rest/<cid>")

    def seen(cid: str) -> Response:
        call = current()
        assert call.cid == cid
        return respond(values={"parameters": dict(call.parameters), "body": call.body.decode(), "path": call.path})

    @things.get("/things")
    @auth.read_only
    def get_things(cid: str) -> Response:
        return seen(cid)

    @things.get("/projects/<pid>/save")
    def save(cid: str, pid: str) -> Response:
        return seen(cid)

    @things.post("/things")
    def post_things(cid: str) -> Response:
        return edge.handlers["run"]() if "run" in edge.handlers else seen(cid)

    @things.post("/open")
    @auth.unsigned
    def post_open(cid: str) -> Response:
        return respond(text=f"open, {'gramian_call' in g}")

    users = {"c1": SECRET, "c2": base64.b64encode(b"another 16b key!").decode()}
    settings = Settings(body_limit_bytes=LIMIT, require_v2=require_v2)
    things.before_request(auth.authenticator(users.get, edge.tokens, lambda: edge.now_s, settings))
    app.register_blueprint(things)
    errors.register(app)
    return edge


@pytest.fixture
def edge() -> Edge:
    return build()


@pytest.fixture
def v2_edge() -> Edge:
    return build(require_v2=True)
