"""Idempotency-Key: applied once, answered twice."""

from __future__ import annotations

import pytest

from gramian.errors import InvalidRequest, Unavailable
from gramian.http import replay
from gramian.http.envelope import respond

KEY = {"Idempotency-Key": "k1"}


class Endpoint:
    """A state-changing endpoint that remembers the operations it was asked to do."""

    def __init__(self, edge) -> None:
        self.edge = edge
        self.operations: list[str | None] = []
        self.outcome = lambda: respond("CREATED", f"number {len(self.operations)}", headers={"sym-job-id": "7"})
        self.cid, self.pid, self.endpoint = "c1", "p1", "learn"

    def run(self, operation_id: str | None):
        self.operations.append(operation_id)
        return self.outcome()

    def send(self, headers: dict[str, str] = KEY, body: bytes = b"{}", query: str = "", **more: object):
        def answer():
            return replay.idempotent(
                self.edge.tokens, lambda: self.edge.now_s, self.cid, self.pid, self.endpoint, self.run
            )

        signed = self.edge.headers("POST", query=query, body=body)
        return self.edge.call(answer, body=body, query=query, headers={**signed, **headers})


@pytest.fixture
def endpoint(edge) -> Endpoint:
    return Endpoint(edge)


def test_without_key_every_request_runs(endpoint: Endpoint) -> None:
    """And the use case gets no operation id."""
    assert [endpoint.send({}).json["statusString"] for _ in range(2)] == ["number 1", "number 2"]
    assert endpoint.operations == [None, None]


def test_same_key_gives_the_first_answer_again(endpoint: Endpoint) -> None:
    """Status, body and the headers of a job."""
    first, again = endpoint.send(), endpoint.send()
    assert len(endpoint.operations) == 1
    assert (again.status_code, again.data) == (first.status_code, first.data)
    assert (again.headers["sym-job-id"], again.headers["Cache-Control"]) == ("7", "no-store")
    assert again.mimetype == "application/json"


def test_same_key_after_a_day_runs_again(endpoint: Endpoint) -> None:
    """24 hours, then it is a new operation."""
    endpoint.send()
    endpoint.edge.now_s += replay.ANSWER_KEPT_S
    endpoint.send()
    assert len(set(endpoint.operations)) == 2


@pytest.mark.parametrize("part", ["cid", "pid", "endpoint"])
def test_same_key_elsewhere_is_another_operation(endpoint: Endpoint, part: str) -> None:
    """Keys are scoped to customer, project and endpoint."""
    endpoint.send()
    setattr(endpoint, part, "other")
    endpoint.send()
    assert len(set(endpoint.operations)) == 2


@pytest.mark.parametrize("change", [{"body": b"[]"}, {"query": "async=true"}])
def test_same_key_for_another_request_is_refused(endpoint: Endpoint, change: dict) -> None:
    """Its answer would be a lie."""
    endpoint.send()
    answer = endpoint.send(**change)
    assert answer.status_code == 400
    assert "another request" in answer.json["statusString"]
    assert len(endpoint.operations) == 1


def test_duplicate_while_running_is_conflict(endpoint: Endpoint) -> None:
    """The second arrives in the middle of the first."""
    inner = []

    def outcome():
        if not inner:
            inner.append(None)
            inner.append(endpoint.send())
        return respond()

    endpoint.outcome = outcome
    outer = endpoint.send()
    assert (outer.status_code, inner[1].status_code, inner[1].json["statusCode"]) == (200, 409, "CONFLICT")
    assert "still running" in inner[1].json["statusString"]
    assert len(endpoint.operations) == 1


@pytest.mark.parametrize("how", ["raised", "returned"])
def test_refused_request_frees_the_key(endpoint: Endpoint, how: str) -> None:
    """The caller repairs what was wrong and may keep the key."""
    good = endpoint.outcome
    endpoint.outcome = lambda: fail(InvalidRequest("bad row")) if how == "raised" else respond("BAD_REQUEST", "bad row")
    assert endpoint.send().json["statusString"] == "bad row"
    endpoint.outcome = good
    assert endpoint.send(body=b"[]").status_code == 201


@pytest.mark.parametrize("error", [Unavailable("down"), ZeroDivisionError()])
def test_failed_run_is_repeated_under_the_same_operation_id(endpoint: Endpoint, error: Exception) -> None:
    """It may have done its work before it failed; at once, since it is known to have ended."""
    good = endpoint.outcome
    endpoint.outcome = lambda: fail(error)
    assert endpoint.send().status_code >= 500
    endpoint.outcome = good
    assert endpoint.send().status_code == 201
    assert len(endpoint.operations) == 2
    assert len(set(endpoint.operations)) == 1


def test_dead_run_is_taken_over_after_its_lease(endpoint: Endpoint) -> None:
    """A killed process leaves its marker behind; one retry gets its operation id."""
    endpoint.outcome = lambda: fail(SystemExit())
    with pytest.raises(SystemExit):
        endpoint.send()
    endpoint.outcome = lambda: respond("CREATED")
    assert endpoint.send().status_code == 409
    endpoint.edge.now_s += replay.RUN_LEASE_S
    assert endpoint.send().status_code == 201
    assert len(set(endpoint.operations)) == 1


def test_large_answer_is_not_kept(endpoint: Endpoint) -> None:
    """The repetition learns that the work is done."""
    endpoint.outcome = lambda: respond(values={"string": "x" * replay.MAX_ANSWER_BYTES})
    assert len(endpoint.send().data) > replay.MAX_ANSWER_BYTES
    again = endpoint.send()
    assert (again.status_code, again.json["values"]) == (200, {})
    assert "done before" in again.json["statusString"]
    assert len(endpoint.operations) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "é", "a\tb"])
def test_malformed_key_is_refused(endpoint: Endpoint, key: str) -> None:
    """Printable ASCII of a sane length."""
    answer = endpoint.send({"Idempotency-Key": key})
    assert answer.status_code == 400
    assert "Idempotency-Key must be" in answer.json["statusString"]


def fail(error: BaseException):
    raise error
