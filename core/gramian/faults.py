"""Named steps at which a test can kill the process, to prove that it may die there (`gramian faults`)."""

from __future__ import annotations

import os
import signal

STEPS = {
    "learn.blob": "a batch's statistics are ready, and stored if they are large; nothing points to them",
    "learn.commit": "a batch counts, the caller has no answer yet",
    "forget.commit": "a learned batch is dropped, its statistics are still stored",
    "compaction.blob": "the folded rows are stored, nothing points to them",
    "compaction.commit": "the folded rows count, what they replace is still there",
    "compaction.discard": "the folded deltas are removed, the old base is still there",
    "job.recorded": "a job has its number, nobody was told to run it",
    "job.finished": "a job is done, its body is still stored",
    "upload.blob": "the statistics of a part of a file are stored, nothing points to them",
    "upload.noted": "a part of a file is read, the statistics that it replaces are still there",
    "upload.learned": "a file's rows count, the file is still there",
    "create.streams": "the federation's place in the transport exists, the node knows nothing of it",
    "join.redeemed": "the admin has taken the new member in, the joiner has not stored its answer",
    "redemption.commit": "the admin has stored the new member and not answered",
    "roster.commit": "the admin has stored a new roster, the transport has the old one",
    "pulsing.commit": "the pulse is on or off, the scheduler has not been told",
    "publish.decided": "a publication is stored, the transport has none of it",
    "publish.blob": "the blob is in the transport, its head is not",
    "publish.head": "the head is in the transport, the node has not noted it",
    "publish.freed": "the blobs that it replaces are freed in the transport, the node has not noted it",
    "explore.commit": "a node has settled whether it may be explored, the others do not know",
    "reclaim.freed": "the blob of a member that is gone is freed in the transport, the node has not noted it",
    "leave.decided": "a node has settled that it leaves, the others do not know",
    "accept.blob": "a peer's snapshot is stored, nothing points to it",
    "accept.commit": "a peer's snapshot counts, what it replaces is still there",
    "merge.blob": "the federated statistics are stored, nothing points to them",
    "merge.commit": "the federated statistics count, what they replace is still there",
    "build.blob": "a model is stored, nothing points to it",
    "build.commit": "a model counts, the one that it replaces is still there",
    "delete.commit": "a project is gone for its user, all of its data is still there",
    "delete.items": "a deleted project's items are removed, its blobs are still there",
}
_armed = os.environ.get("GRAMIAN_FAULT", "") if os.environ.get("GRAMIAN_FAULTS") == "1" else ""


def step(name: str) -> None:
    """Die here if a test asks for it."""
    assert name in STEPS, name
    if name == _armed:
        os.kill(os.getpid(), signal.SIGKILL)
