"""Job runners that have a job run by another function, started asynchronously: `run_job`, or for syncs `pulse`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from gramian.errors import StoreError, Unavailable
from gramian.hookspecs import Option, Options, hookimpl
from gramian.node import Node
from gramian.ports import JobRunner
from gramian_aws import clients
from gramian_aws.errors import translating
from gramian_aws.identity import deadline_of

gramian_api = "1"

STOPPING_S: Final = 60.0
"""So long before its time limit a function asks a long job to go on in another."""


@hookimpl
def gramian_options() -> Sequence[Option]:
    return (
        Option("function", required=True, help="Name or ARN of the function that runs the jobs."),
        Option(
            "waiting_s", int, 3600, help="How long Lambda keeps an event that the function cannot take.", minimum=60
        ),
    )


@hookimpl
def gramian_job_runner(options: Options) -> JobRunner:
    return LambdaJobRunner(options["function"], waiting_s=options["waiting_s"])


class LambdaJobRunner(JobRunner):
    """`gramian.ports.JobRunner` for any number of processes."""

    def __init__(self, function: str, *, waiting_s: float) -> None:
        """`waiting_s`: after that a job which no process has taken up never will be."""
        self._function = function
        self.patience_s = waiting_s

    def submit(self, cid: str, number: int, execute: Callable[[], None]) -> str:  # noqa: ARG002 (not here)
        """Start the function with the job's number. Raises Unavailable."""
        try:
            invoke(self._function, {"cid": cid, "number": number})
        except StoreError as error:
            raise Unavailable(f"no job can be started now: {error}") from error
        return ""

    def close(self) -> None:
        """Nothing is held: jobs go on without this process."""


def invoke(function: str, event: Mapping[str, Any]) -> None:
    """Start a function and do not wait for it. Raises StoreError."""
    with translating("lambda:InvokeFunction", f"function {function}"):
        clients.client("lambda").invoke(
            FunctionName=function, InvocationType="Event", Payload=json.dumps(event).encode()
        )


def run_job(node: Node, event: Mapping[str, Any]) -> None:
    """What `run_job` does."""
    from gramian.usecases import jobs

    until = deadline_of(node.instance) - STOPPING_S
    jobs.execute(node, str(event["cid"]), int(event["number"]), until=until)
