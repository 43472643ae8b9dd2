"""Nodes of type gpu: their work goes to a machine with one, one job at a time; numpy stands in for the device."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gramian.client import BadRequest
from gramian.errors import Unavailable
from gramian.ports import JobRunner
from gramian.usecases import jobs
from gramian.usecases.federation import gpu, pulse
from gramian.usecases.projects import lifecycle, uploads

NAMES = ["x", "y"]
ROWS = np.random.default_rng(0).normal(size=(60, 2))


class Machine(JobRunner):
    """A queue of machines with a GPU: jobs wait in it until a test runs or loses one."""

    patience_s = 300.0

    def __init__(self) -> None:
        self.waiting: list[tuple[str, int]] = []
        self.lost: dict[str, str] = {}
        self.is_full = False

    def submit(self, cid: str, number: int, execute: Callable[[], None]) -> str:
        if self.is_full:
            raise Unavailable("no machine with a GPU can be had now")
        self.waiting.append((cid, number))
        return f"batch-{number}"

    def failure(self, handle: str) -> str:
        return self.lost.get(handle, "")

    def close(self) -> None:
        pass


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def federation(federate: Callable[..., Any], site: Callable[..., Any], machine: Machine) -> Any:
    """Two nodes; the second is of type gpu."""
    made, peer = federate(1), site("gpu")
    with_gpu(peer.node, machine)
    made.join(peer, fed_local_type="gpu")
    made.learn(NAMES, "CC", [ROWS, ROWS + 1])
    for each in made.sites:
        each.client.start_pulse("study")
    # Both are due at once, by the scheduler's thread.
    eventually(lambda: machine.waiting == [("gpu", 1)] and made.admin.client.sync_stats("study")["sndCount"] == 1)
    return made


def eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 15
    while not holds():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)


def with_gpu(node: Any, machine: Machine) -> None:
    """As if it had been opened with GRAMIAN_GPU_JOBS=machine."""
    object.__setattr__(node, "settings", replace(node.settings, gpu_jobs="machine"))
    node._made["jobs.machine"] = machine


def project_of(site: Any) -> lifecycle.Project:
    return lifecycle.find(site.node, site.name, "study")


def test_create_and_join_of_type_gpu_are_refused_without_one(federate: Callable[..., Any], site: Any) -> None:
    """In words that say what to set; the invitation is not used up."""
    made, peer = federate(1), site("peer")
    keys = {"fed_name": "other", "sync_sched": "m30", "nats_hosts": made.nats_url, "fed_local_type": "gpu"}
    with pytest.raises(BadRequest, match=r"this node has no GPU.*GRAMIAN_GPU_JOBS=batch"):
        peer.client.create_federation("other", **keys)
    invitation = made.admin.client.invite("study", "password", made.admin.url)
    with pytest.raises(BadRequest, match="this node has no GPU"):
        peer.client.join("study", invitation, fed_local_type="gpu")
    assert peer.client.projects() == []
    peer.client.join("study", invitation)


def test_due_pulse_is_a_job_and_a_second_one_is_skipped(federation: Any, machine: Machine) -> None:
    """What the job does counts as if the node had done it, and the skipped one is in the sync log."""
    cpu, own = federation.sites
    assert machine.waiting == [("gpu", 1)]  # starting the pulse made one due
    pulse.scheduled(own.node, "gpu", "study")
    pulse.scheduled(own.node, "gpu", "study")
    assert machine.waiting == [("gpu", 1)]
    (line,) = own.client.sync_log("study")
    assert "Sync skipped: job 1 of this node is still on the GPU" in line
    assert gpu.work(own.node, "gpu", "study") == ""
    cpu.client.sync("study")
    pulse.scheduled(own.node, "gpu", "study")
    assert machine.waiting == [("gpu", 1), ("gpu", 2)]
    assert gpu.work(own.node, "gpu", "study") == ""
    cpu.client.sync("study")
    federation.assert_converged(120)
    assert own.client.error_log("study") == []


def test_sync_on_request_is_a_job(federation: Any, machine: Machine) -> None:
    """Answered at once with its number; asked again meanwhile, with the same one."""
    _, own = federation.sites
    replies = [own.client.request("GET", "/fedml/study/fullSyncRequest") for _ in range(2)]
    assert [(reply.http_status, reply.job_id) for reply in replies] == [(202, "1"), (202, "1")]
    assert not own.client.job("1").is_done
    gpu.work(own.node, "gpu", "study")
    assert own.client.job("1").is_done


def test_large_learn_is_a_job_and_refused_while_another_is_there(
    federation: Any, machine: Machine, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small one is learned here, at once; so is a forget."""
    _, own = federation.sites
    monkeypatch.setattr(gpu, "LARGE_BATCH_BYTES", 2_000)
    own.client.learn("study", NAMES, "CC", ROWS[:5])
    with pytest.raises(Exception, match="job 1 of this node is on the GPU; try again when it is done"):
        own.client.learn("study", NAMES, "CC", ROWS)
    gpu.work(own.node, "gpu", "study")
    own.client.learn("study", NAMES, "CC", ROWS)
    assert len(machine.waiting) == 2
    (tmp_path / "rows.csv").write_text("x,y\n1.5,2\n3,4\n")
    upload = own.client.upload("study", tmp_path / "rows.csv")
    with pytest.raises(Exception, match="try again when it is done"):
        own.client.learn_upload("study", upload)
    assert gpu.work(own.node, "gpu", "study") == ""
    number = own.client.learn_upload("study", upload)
    assert own.client.learn_upload("study", upload) == number
    assert gpu.work(own.node, "gpu", "study") == ""
    assert own.client.project_info("study")["params"]["local_rows"] == str(60 + 5 + 60 + 2)
    own.client.forget("study", NAMES, "CC", ROWS)
    assert own.client.project_info("study")["params"]["local_rows"] == "67"


def test_lost_job_is_in_the_error_log_and_the_next_pulse_goes_through(federation: Any, machine: Machine) -> None:
    """Its machine was reclaimed while it worked: found by the next due pulse, which takes its place."""
    cpu, own = federation.sites
    machine.lost["batch-1"] = "its container ended (Host EC2 terminated)"
    pulse.scheduled(own.node, "gpu", "study")
    assert machine.waiting == [("gpu", 1), ("gpu", 2)]
    assert not gpu.went_well(own.node, project_of(own))
    (line,) = own.client.error_log("study")
    assert "the job 'gpu_pulse' on the GPU failed: its container ended (Host EC2 terminated)" in line
    jobs.execute(own.node, "gpu", 1)  # its container was only slow, after all
    assert "Host EC2" in jobs.find(own.node, "gpu", 1).error
    assert gpu.work(own.node, "gpu", "study") == ""
    assert gpu.went_well(own.node, project_of(own))
    cpu.client.sync("study")
    pulse.scheduled(own.node, "gpu", "study")
    gpu.work(own.node, "gpu", "study")
    federation.assert_converged(120)


def test_upload_whose_machine_was_reclaimed_is_learned_by_the_next(federation: Any, machine: Machine, tmp_path) -> None:
    """It is not counted twice, and the user finds the reason."""
    _, own = federation.sites
    gpu.work(own.node, "gpu", "study")
    (tmp_path / "rows.csv").write_text("x,y\n1.5,2\n3,4\n")
    upload = own.client.upload("study", tmp_path / "rows.csv")
    number = int(own.client.learn_upload("study", upload))
    dead = replace(own.node, instance="dead")
    uploads.run(jobs.Task(dead, "gpu", number, jobs._claim(dead, "gpu", number)))
    machine.lost[f"batch-{number}"] = "reclaimed"
    again = int(own.client.learn_upload("study", upload))
    assert again == number + 1
    assert gpu.work(own.node, "gpu", "study") == ""
    assert own.client.project_info("study")["params"]["local_rows"] == "62"
    assert "the job 'upload' on the GPU failed: reclaimed" in own.client.error_log("study")[0]


def test_full_queue_is_in_the_error_log(federation: Any, machine: Machine) -> None:
    """And nothing waits."""
    _, own = federation.sites
    gpu.work(own.node, "gpu", "study")
    machine.is_full = True
    with pytest.raises(Unavailable):
        pulse.scheduled(own.node, "gpu", "study")
    (line,) = own.client.error_log("study")
    assert "no pulse could be submitted to a GPU: no machine with a GPU can be had now" in line
    assert gpu.running(own.node, project_of(own)) is None


def test_machine_with_its_own_gpu_pulses_itself(federation: Any, machine: Machine) -> None:
    """As the container does, and `gramian serve` with a GPU: no job, the device computes here."""
    _, own = federation.sites
    jobs_before = len(machine.waiting)
    here = replace(own.node, settings=replace(own.node.settings, gpu_jobs=""))
    pulse.scheduled(here, "gpu", "study")
    assert len(machine.waiting) == jobs_before
    assert own.client.sync_stats("study")["sndCount"] == 1


def test_pulse_command_does_the_waiting_job(federation: Any, machine: Machine) -> None:
    """In another process, on the same stores; without a waiting job it syncs; a failure is its exit status."""
    _, own = federation.sites
    assert not own.client.job("1").is_done
    for _ in range(2):
        assert run_pulse(own, "study").returncode == 0
    assert own.client.job("1").is_done
    assert own.client.sync_stats("study")["sndCount"] == 1
    failed = run_pulse(own, "unknown")
    assert failed.returncode == 1
    assert failed.stderr.strip().endswith("Cannot Find SYMETRYML id[unknown] for Customer id [gpu]")


def run_pulse(site: Any, pid: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gramian_local", "pulse", "--cid", site.name, "--pid", pid]
    env = {**os.environ, "GRAMIAN_HOME": str(site.node.settings.home)}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
