"""Once only: signatures that were used, and retries that must not apply twice."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from flask import Response, request

from gramian.domain import typed
from gramian.domain.canonical import join
from gramian.errors import InvalidRequest
from gramian.http.envelope import STATUS, respond
from gramian.http.errors import status_code_of
from gramian.ports import TokenStore

SIGNATURE_KEPT_S = 15 * 60
"""Longer than the 6 minutes in which a date is accepted."""
ANSWER_KEPT_S = 24 * 3600
MAX_ANSWER_BYTES = 64 * 1024
RUN_LEASE_S = 60
"""After this long a run that never ended counts as dead, and a retry may take over under the same operation id."""
_KEPT_HEADERS = ("Location", "sym-job-id")


def claim_once(tokens: TokenStore, replay_key: str, now_s: float) -> None:
    """Note a verified signature as used. Raises InvalidRequest if it was; StoreError if nobody can tell."""
    if tokens.claim(f"sig/{replay_key}", b"used", now=now_s, expires_at=now_s + SIGNATURE_KEPT_S) is not None:
        raise InvalidRequest("this signature was used before: sign the request again with a new sym-date")


def idempotent(
    tokens: TokenStore,
    clock: Callable[[], float],
    cid: str,
    pid: str,
    endpoint: str,
    run: Callable[[str | None], Response],
    *,
    instance: str = "",
    instance_alive: Callable[[str], bool] = lambda _instance: True,
) -> Response:
    """Answer the current request by `run(operation_id)`, at most once per Idempotency-Key header.

    Without the header `run` gets None and each request is its own operation. With it the first answer is kept for
    24 hours and given again; a repetition while the first still runs gets 409. A refused request (4xx) frees the key.
    A run that died or failed (5xx) may have done its work or not: its repetition gets the same operation id, by which
    the use case finds out. So does that of a request that was only accepted (202), if the process that was to do the
    work is gone. Raises InvalidRequest if the key was used for another request.

    `instance` names this process, `instance_alive` tells whether one still runs.
    """
    header = request.headers.get("Idempotency-Key")
    if header is None:
        return run(None)
    if not (1 <= len(header) <= 255 and header.isascii() and header.isprintable()):
        raise InvalidRequest("Idempotency-Key must be 1 to 255 printable ASCII characters")
    key = "idem/" + hashlib.sha256(join(cid, pid, endpoint, header)).hexdigest()
    return _Operation(tokens, clock, key, instance, instance_alive).answer(run)


class _Record(msgspec.Struct, frozen=True):
    """What stands under a key, until `expires_at`. `instance`: the process that runs it. `until`: when a run without an
    answer counts as dead, if its process is not known to be."""

    operation_id: str
    fingerprint: str
    instance: str
    expires_at: float
    until: float
    status: int = 0
    body: str = ""
    headers: Mapping[str, str] | None = None

    def to_bytes(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> _Record:
        return typed.decode(data, cls)


class _Operation(msgspec.Struct, frozen=True):
    tokens: TokenStore
    clock: Callable[[], float]
    key: str
    instance: str
    instance_alive: Callable[[str], bool]

    def answer(self, run: Callable[[str | None], Response]) -> Response:
        claimed = self._claim()
        if isinstance(claimed, Response):
            return claimed
        try:
            response = run(claimed.operation_id)
        except Exception as error:
            self._end(claimed, STATUS[status_code_of(error)])
            raise
        if response.status_code < 400:
            self._keep(claimed, response)
        else:
            self._end(claimed, response.status_code)
        return response

    def _claim(self) -> _Record | Response:
        """The running marker if this request may run, else the answer it gets."""
        now = self.clock()
        expires_at, until = now + ANSWER_KEPT_S, now + RUN_LEASE_S
        record = _Record(secrets.token_hex(16), _fingerprint(), self.instance, expires_at, until)
        held = self.tokens.claim(self.key, record.to_bytes(), now=now, expires_at=expires_at)
        if held is None:
            return record
        earlier = _Record.from_bytes(held)
        if earlier.fingerprint != record.fingerprint:
            raise InvalidRequest("this Idempotency-Key was used for another request: take a new one")
        gone = not self.instance_alive(earlier.instance)
        if earlier.status and not (gone and earlier.status == STATUS["ACCEPTED"]):
            return Response(earlier.body, earlier.status, earlier.headers, mimetype="application/json")
        mine = msgspec.structs.replace(earlier, status=0, instance=self.instance, until=until)
        if (now < earlier.until and not gone) or not self._swap(earlier, mine):
            return respond("CONFLICT", "the first request with this Idempotency-Key is still running, ask again later")
        return mine

    def _keep(self, mine: _Record, response: Response) -> None:
        body = response.get_data(as_text=True)
        if len(body.encode()) > MAX_ANSWER_BYTES:
            body = respond(text="done before; the answer was too large to be kept").get_data(as_text=True)
        headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
        headers["Cache-Control"] = "no-store"
        self._swap(mine, msgspec.structs.replace(mine, status=response.status_code, body=body, headers=headers))

    def _end(self, mine: _Record, status: int) -> None:
        """Free the key after a refusal; after a failure let the next retry take over at once."""
        if status < 500:
            self.tokens.release(self.key, expect=mine.to_bytes())
        else:
            self._swap(mine, msgspec.structs.replace(mine, until=self.clock()))

    def _swap(self, old: _Record, new: _Record) -> bool:
        # Never longer than at first: the use cases remember an operation for as long as that.
        return self.tokens.replace(
            self.key, new.to_bytes(), expect=old.to_bytes(), now=self.clock(), expires_at=new.expires_at
        )


def _fingerprint() -> str:
    """What the key is bound to: the method, path, query and body of the current request."""
    query = request.query_string
    parts: tuple[Any, ...] = (request.method, request.path, query, request.get_data())
    return hashlib.sha256(join(*parts)).hexdigest()
