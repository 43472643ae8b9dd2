"""fullSyncRequest where another process syncs: waited for, but not for ever."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gramian.client import BadRequest, Client
from gramian.http.app import full_app
from gramian.node import Node
from gramian.ports import JobRunner
from gramian.settings import Settings
from gramian.usecases import jobs, users
from gramian_local.node import opened


class Elsewhere(JobRunner):
    """Runs a job as another process would, when `run` is called; counts the seconds that it is waited for."""

    patience_s = 3600.0

    def __init__(self) -> None:
        self.waited_s = 0.0
        self.submitted: list[int] = []
        self.work: Callable[[int], None] = lambda _number: None

    def submit(self, cid: str, number: int, execute: Callable[[], None]) -> str:
        self.submitted.append(number)
        self.work(number)
        return ""

    def close(self) -> None: ...


@pytest.fixture
def elsewhere() -> Elsewhere:
    return Elsewhere()


@pytest.fixture
def node(tmp_path: Path, elsewhere: Elsewhere, nats_server) -> Iterator[Node]:
    from gramian.usecases.federation import found

    with opened(Settings(sync_jobs="elsewhere"), tmp_path / "home") as (made, _):
        begun = 1_800_000_000.0

        def sleep(seconds: float) -> None:
            elsewhere.waited_s += seconds

        made = dataclasses.replace(made, clock=lambda: begun + elsewhere.waited_s, sleep=sleep)
        made._made["jobs.elsewhere"] = elsewhere
        users.create(made, "clinic", "AAAAAAAAAAAAAAAAAAAAAA==")
        wishes = {
            "fed_name": "study",
            "sync_sched": "d1",
            "nats_hosts": nats_server.url,
            "nats_stream_max_memory": "16777216",
        }
        found.create(made, "clinic", "study", wishes, persist=True)
        yield made


@pytest.fixture
def sync(node: Node) -> Callable[[], tuple[int, str, str | None]]:
    """Status, text and job id of a signed request."""

    def ask() -> tuple[int, str, str | None]:
        web = full_app(node).test_client()
        client = Client(
            "http://localhost", "clinic", "AAAAAAAAAAAAAAAAAAAAAA==", clock_ns=lambda: int(node.clock() * 1e9)
        )
        answers: list[Any] = []

        def exchange(method: str, url: str, content: bytes, headers: Any) -> tuple[int, str | None, bytes]:
            answers.append(web.open(url, method=method, data=content or None, headers=dict(headers)))
            answer = answers[0]
            return answer.status_code, answer.headers.get("sym-job-id"), answer.data

        client._wire._exchange = exchange
        with suppress(BadRequest):
            client.request("GET", "/fedml/study/fullSyncRequest")
        return answers[0].status_code, json.loads(answers[0].data)["statusString"], answers[0].headers.get("sym-job-id")

    return ask


def test_sync_that_is_done_in_time_is_answered_as_done(node: Node, elsewhere: Elsewhere, sync) -> None:
    """200, as where the request itself syncs."""
    elsewhere.work = lambda number: jobs.execute(dataclasses.replace(node, instance="other"), "clinic", number)
    assert sync() == (200, "OK", None)
    assert elsewhere.waited_s < 1


def test_sync_that_takes_longer_than_20_seconds_is_answered_with_its_job(elsewhere: Elsewhere, sync) -> None:
    """The gateway would give up at 30."""
    status, _, number = sync()
    assert (status, number) == (202, str(elsewhere.submitted[0]))
    assert 19 < elsewhere.waited_s < 22


def test_sync_that_fails_is_answered_with_its_reason(node: Node, elsewhere: Elsewhere, sync, monkeypatch) -> None:
    """400 and the job's own words."""
    from gramian.errors import TransportUnavailable
    from gramian.usecases.federation import pulse

    def unreachable(*_: Any, **__: Any) -> None:
        raise TransportUnavailable("NATS cannot be reached at all")

    monkeypatch.setattr(pulse, "run", unreachable)
    elsewhere.work = lambda number: jobs.execute(dataclasses.replace(node, instance="other"), "clinic", number)
    assert sync() == (400, "NATS cannot be reached at all", None)
