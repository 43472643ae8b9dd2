"""The calls of the REST API, one method each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gramian.client import files
from gramian.client.errors import BadReply, StillRunning
from gramian.client.rows import Rows, dataframe
from gramian.client.wire import Reply, Wire, json_map, segment
from gramian.domain import sealing
from gramian.domain.sealing import Scheme
from gramian.errors import BadSeal, InvalidRequest


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the server describes it: `values` are its result once it is done, else its progress."""

    id: str
    is_done: bool
    values: Mapping[str, Any]


class Client:
    """Signs every request, and seals with `gramian.v2` unless `v2` is False (for other servers of the contract).

    Safe to share between threads: every call has its own connection. All methods raise ClientError.
    """

    def __init__(
        self,
        url: str,
        cid: str,
        secret_key: str,
        *,
        timeout_s: float = 60,
        v2: bool = True,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`url`: where the server is, as `https://host:port`, with a path if a gateway has one."""
        scheme = Scheme.V2 if v2 else Scheme.V1
        self._timeout_s = timeout_s
        self._wire = Wire(url, cid, secret_key, timeout_s=timeout_s, scheme=scheme, clock_ns=clock_ns)

    @property
    def secret_key(self) -> str:
        """The key in base64, as it was given."""
        return self._wire.secret_key

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | bool] | None = None,
        *,
        body: Mapping[str, Any] | None = None,
        sealed: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Any endpoint, also one that has no method here: `path` is what follows the customer's id, escaped.

        `body` goes as JSON, `sealed` instead as a sealed map.
        """
        return self._wire.request(method, path, query or {}, body=body, sealed=sealed, headers=headers or {})

    # Projects

    def create_project(self, pid: str, type: str = "cpu", persist: bool = True) -> None:  # noqa: A002 - contract's name
        self.request("POST", "/projects", {"pid": pid, "type": type, "persist": persist})

    def projects(self) -> list[str]:
        return self.request("GET", "/projects/list").strings()

    def project_info(self, pid: str) -> dict[str, Any]:
        return self.request("GET", f"/projects/{segment(pid)}/info").mapping("smlInfo")

    def delete_project(self, pid: str) -> None:
        self.request("DELETE", f"/projects/{segment(pid)}")

    def learn(
        self, pid: str, names: Sequence[str], types: Sequence[str], rows: Rows, *, idempotency_key: str | None = None
    ) -> None:
        """Add rows. `types`: C, B or X for each name, as `"CCB"` or a list. None, NaN and "" are missing cells.

        With an `idempotency_key` the same call can be repeated, for 24 hours, without adding the rows again.
        """
        self._send_rows(pid, "learn", names, types, rows, idempotency_key)

    def forget(
        self, pid: str, names: Sequence[str], types: Sequence[str], rows: Rows, *, idempotency_key: str | None = None
    ) -> None:
        """Take learned rows out again; as `learn`."""
        self._send_rows(pid, "forget", names, types, rows, idempotency_key)

    def learn_file(
        self, pid: str, path: str | Path, types: Mapping[str, str] | None = None, *, timeout_s: float = 3600
    ) -> None:
        """Add the rows of a CSV, Parquet or JSON file (by the end of its name), of any size, all or none.

        `types`: C or B by name, other columns are ignored; inferred if not given. Where this raises after the file was
        sent, `upload` and `learn_upload` let the same upload be learned again, which cannot count twice.
        """
        self.wait_for_job(self.learn_upload(pid, self.upload(pid, path), types), timeout_s)

    def upload(self, pid: str, path: str | Path) -> str:
        """Send a file for `learn_upload`, within 7 days; returns the upload's id."""
        file = Path(path)
        query = {"format": file.suffix.lower().removeprefix("."), "size": str(file.stat().st_size)}
        about = self.request("POST", f"/projects/{segment(pid)}/uploads", query).mapping("upload")
        try:
            files.send(file, about["url"], about["headers"], self._timeout_s)
            return str(about["id"])
        except KeyError as missing:
            raise BadReply(f"the answer has no {missing} for the file") from None

    def learn_upload(self, pid: str, upload_id: str, types: Mapping[str, str] | None = None) -> str:
        """Have an upload learned; returns the job's id. Repeated, the same job, unless that failed."""
        body: dict[str, Any] | None = None
        if types is not None:
            body = {"attributeNames": list(types), "attributeTypes": list(types.values())}
        reply = self.request("POST", f"/projects/{segment(pid)}/uploads/{segment(upload_id)}/learn", body=body)
        if reply.job_id is None:
            raise BadReply("the answer names no job")
        return reply.job_id

    # Federations

    def create_federation(self, pid: str, **keys: str | bool | int) -> None:
        """Make `pid` a federation's admin. `keys`: fed_name, sync_sched, nats_hosts and more (contract 4.1)."""
        self.request("POST", "/fedml/create", {"pid": pid}, sealed=keys)

    def sealed_invitation(
        self,
        pid: str,
        password: str,
        fed_rest_host: str,
        lifetime_hours: float | None = None,
        *,
        replaces: str | None = None,
    ) -> str:
        """A new one-time invitation, as text to pass on; its password goes another way.

        `replaces`: the id of a member that lost its disk; the invited one takes its place.
        """
        keys: dict[str, str | float] = {"passwd": password, "fed_rest_host": fed_rest_host}
        if lifetime_hours is not None:
            keys["fed_token_lifetime_hours"] = lifetime_hours
        if replaces is not None:
            keys["fed_replaces"] = replaces
        reply = self.request("POST", f"/fedml/{segment(pid)}/getInvitation", sealed=keys)
        return reply.text("fedInfoEncrypted", "encryptedGroupInfo")

    def invite(
        self,
        pid: str,
        password: str,
        fed_rest_host: str,
        lifetime_hours: float | None = None,
        *,
        replaces: str | None = None,
    ) -> dict[str, Any]:
        """As `sealed_invitation`, opened: what `join` takes."""
        sealed = self.sealed_invitation(pid, password, fed_rest_host, lifetime_hours, replaces=replaces)
        return self.open_invitation(sealed, password)

    @staticmethod
    def open_invitation(text: str, password: str) -> dict[str, Any]:
        """Open a sealed invitation of either form."""
        try:
            plaintext, _ = sealing.open_invitation(text.encode(), password)
            return json_map(plaintext)
        except (BadSeal, InvalidRequest) as error:
            raise BadReply(f"the invitation cannot be opened: {error}") from None

    def join(self, pid: str, invitation: Mapping[str, Any], **own: str | bool | int) -> None:
        """Join a federation as project `pid`. `own`: this peer's keys, such as fed_local_type (contract 4.3)."""
        self.request("POST", "/fedml/createJoin", {"pid": pid}, sealed={**invitation, **own})

    def federation_info(self, pid: str) -> dict[str, Any]:
        reply = self._fed("GET", pid, "info", self._seal())
        return self._wire.opened(reply, reply.text("fedInfoEncrypted", "federationInfo"))

    def start_pulse(self, pid: str) -> None:
        self._fed("GET", pid, "startPulse")

    def stop_pulse(self, pid: str) -> None:
        self._fed("GET", pid, "stopPulse")

    def new_schedule(self, pid: str, schedule: str) -> None:
        """Change the schedule, such as `m30`; for the admin."""
        self._fed("GET", pid, "newSchedule", {"newSchedule": schedule})

    def sync(self, pid: str, timeout_s: float = 300) -> None:
        """Sync now, and return when this node has: within 20 s, or by a job that is waited for."""
        reply = self._fed("GET", pid, "fullSyncRequest")
        if reply.job_id is not None:
            self.wait_for_job(reply.job_id, timeout_s)

    def evict(self, pid: str, peer: str) -> str:
        """Exclude the member with this id; for the admin. It can read nothing that is published from then on.

        Returns what is left to do so that it reaches the transport no more.
        """
        return self._fed("POST", pid, "evict", {"peer": peer}).text("string")

    def set_explore_peers(self, pid: str, allow: bool) -> None:
        """Whether the other members may explore this node's own summary."""
        self._fed("GET", pid, "setExplorePeers", {"allowExplore": "true" if allow else "false"})

    def set_transport(self, pid: str, **keys: str | bool | int) -> None:
        """Another login or address for this node. `keys`: those that change; an empty text removes one."""
        self.request("POST", f"/fedml/{segment(pid)}/setTransport", sealed=keys)

    def leave(self, pid: str) -> None:
        """Take this node's statistics out of the federation; its rows and models stay here."""
        self._fed("POST", pid, "leave")

    def error_log(self, pid: str) -> list[str]:
        return self._fed("GET", pid, "getErrorLog").strings()

    def clear_error_log(self, pid: str) -> None:
        self._fed("DELETE", pid, "clearErrorLog")

    def sync_log(self, pid: str) -> list[str]:
        return self._fed("GET", pid, "getSyncLog").strings()

    def sync_stats(self, pid: str) -> dict[str, Any]:
        return self._fed("GET", pid, "syncStats").mapping("fedSyncStats")

    def aws_info(self, access_key: str, secret_key: str, region: str | None = None) -> dict[str, Any]:
        """Topics and queues of an AWS account by region: the contract's AwsInfo. `region`: of this one alone."""
        keys = {
            "aws_access_key": access_key,
            "aws_secret_key": secret_key,
            **({"aws_region": region} if region else {}),
        }
        reply = self.request("POST", "/fedml/awsinfo", sealed=keys)
        if reply.job_id is None:
            raise BadReply("the answer names no job")
        self.wait_for_job(reply.job_id)
        answer = self.request("GET", f"/jobs/{segment(reply.job_id)}", self._seal())
        return self._wire.opened(answer, answer.text("awsInfoEncrypted"))

    # Jobs and models

    def job(self, job_id: str) -> Job:
        """Where a job stands. A failed one raises BadRequest with its reason."""
        reply = self.request("GET", f"/jobs/{segment(job_id)}")
        return Job(job_id, reply.http_status != 202, reply.values)

    def wait_for_job(self, job_id: str, timeout_s: float = 300) -> Job:
        """Ask until the job is done, at first often. Raises StillRunning after `timeout_s`."""
        deadline, pause_s = time.monotonic() + timeout_s, 0.02
        while not (job := self.job(job_id)).is_done:
            if time.monotonic() >= deadline:
                raise StillRunning(f"job {job_id} is still running after {timeout_s} s")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 1.0)
        return job

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs, as the contract's JobInfo."""
        value = self.request("GET", "/jobs").values.get("jobinfoList")
        return list(value["values"] if isinstance(value, Mapping) else value or ())

    def build(
        self,
        pid: str,
        model_id: str,
        target: str,
        inputs: Sequence[str] | None = None,
        algo: str = "mlr",
        wait: bool = True,
        parameters: Mapping[str, str] | None = None,
    ) -> str:
        """Build a model of `target` from `inputs` (default: all others); returns the job's id."""
        context: dict[str, Any] = {"targetAttributeNames": [target], "extraParameters": dict(parameters or {})}
        if inputs is not None:
            context["inputAttributeNames"] = list(inputs)
        query = {"modelid": model_id, "algo": algo}
        reply = self.request("POST", f"/projects/{segment(pid)}/build", query, body=context)
        if reply.job_id is None:
            raise BadReply("the answer names no job")
        if wait:
            self.wait_for_job(reply.job_id)
        return reply.job_id

    def model(self, pid: str, model_id: str) -> dict[str, Any]:
        return self.request("GET", f"/projects/{segment(pid)}/models/{segment(model_id)}").mapping("modelInfo")

    def delete_model(self, pid: str, model_id: str) -> None:
        self.request("DELETE", f"/projects/{segment(pid)}/models/{segment(model_id)}")

    def predict(self, pid: str, model_id: str, names: Sequence[str], rows: Rows) -> list[dict[str, str]]:
        """One map per row; `res` is the prediction. All columns are sent as numbers."""
        path = f"/projects/{segment(pid)}/predict/{segment(model_id)}"
        reply = self.request("POST", path, body=dataframe(names, "C" * len(names), rows))
        return list(reply.mapping("KSVSMap")["values"])

    def _seal(self) -> dict[str, str]:
        """The query that says how an answer to a request without a body is to be sealed."""
        return {"seal": "v2"} if self._wire.scheme is Scheme.V2 else {}

    def _fed(self, method: str, pid: str, action: str, query: Mapping[str, str] | None = None) -> Reply:
        return self.request(method, f"/fedml/{segment(pid)}/{action}", query)

    def _send_rows(
        self,
        pid: str,
        action: str,
        names: Sequence[str],
        types: Sequence[str],
        rows: Rows,
        idempotency_key: str | None,
    ) -> None:
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        path = f"/projects/{segment(pid)}/{action}"
        self.request("POST", path, body=dataframe(names, types, rows), headers=headers)
