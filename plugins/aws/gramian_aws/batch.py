"""Job runner on AWS Batch: a container on a machine of a queue, which starts for the job and ends after it.

The container runs `gramian pulse --cid --pid` (template.yaml), and finds by itself which job of the project waits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Final

from gramian import plugins
from gramian.domain.canonical import join
from gramian.errors import StoreError, Unavailable
from gramian.hookspecs import Option, Options, hookimpl
from gramian.ports import JobRunner, StateStore
from gramian.settings import Settings
from gramian.usecases import job_records
from gramian_aws import clients
from gramian_aws.errors import translating

gramian_api = "1"

HANDOVER_S: Final = 300.0
"""From a job's record to its name: longer, and whoever submitted it has died in between."""


@hookimpl
def gramian_options() -> Sequence[Option]:
    return (
        Option("queue", required=True, help="Name or ARN of the job queue."),
        Option("job_definition", required=True, help="Name or ARN of the job definition, with parameters cid and pid."),
    )


@hookimpl
def gramian_job_runner(settings: Settings, options: Options) -> JobRunner:
    return BatchJobRunner(
        options["queue"], options["job_definition"], lambda: plugins.make("state", settings.state, settings)
    )


class BatchJobRunner(JobRunner):
    """`gramian.ports.JobRunner` for jobs of a project; nothing here has to keep running."""

    patience_s = HANDOVER_S

    def __init__(self, queue: str, definition: str, open_state: Callable[[], StateStore]) -> None:
        """`open_state` opens the store with the jobs' records, when it is first needed."""
        self._queue = queue
        self._definition = definition
        self._open_state = open_state

    @cached_property
    def _state(self) -> StateStore:
        return self._open_state()

    def submit(self, cid: str, number: int, execute: Callable[[], None]) -> str:  # noqa: ARG002 (not here)
        """Submit the job under a name that is always the same for its project. Raises Unavailable."""
        pid = job_records.pid_of(self._state, cid, number)
        try:
            with translating("batch:SubmitJob", f"job queue {self._queue}"):
                submitted = clients.client("batch").submit_job(
                    jobName=name_of(cid, pid),
                    jobQueue=self._queue,
                    jobDefinition=self._definition,
                    parameters={"cid": cid, "pid": pid},
                )
        except StoreError as error:
            raise Unavailable(f"no machine with a GPU can be had now: {error}") from error
        return str(submitted["jobId"])

    def failure(self, handle: str) -> str:
        """Why the container ended without an answer. Raises StoreError."""
        with translating("batch:DescribeJobs", f"job {handle}"):
            found = clients.client("batch").describe_jobs(jobs=[handle])["jobs"]
        if not found:
            return "AWS Batch knows nothing of it any more; submit it again"
        return _failure(found[0])

    def close(self) -> None:
        """Jobs go on without this process."""
        if "_state" in self.__dict__:
            self._state.close()


def name_of(cid: str, pid: str) -> str:
    """The job's name: always the same for a project, whatever characters its ids have."""
    return "pulse-" + hashlib.sha256(join(cid, pid)).hexdigest()[:40]


def _failure(job: dict[str, Any]) -> str:
    if job["status"] not in ("SUCCEEDED", "FAILED"):
        return ""
    container = job.get("container", {})
    said = container.get("reason") or job.get("statusReason") or "it gave no reason"
    exit_code = f", exit code {container['exitCode']}" if "exitCode" in container else ""
    return f"its container on AWS Batch ended without a result ({said}{exit_code}); submit it again"
