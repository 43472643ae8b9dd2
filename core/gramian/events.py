"""What observers are told: figures, ids and names, never rows, statistics or secrets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SnapshotPublished:
    """This node's statistics are where the other members find them. `size_bytes`: as published."""

    cid: str
    pid: str
    fed_id: str
    peer_id: str
    epoch: int
    rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SnapshotAccepted:
    """The statistics of member `peer_id` passed all checks and count from now on; `rows` 0 if it has left."""

    cid: str
    pid: str
    fed_id: str
    peer_id: str
    epoch: int
    rows: int


@dataclass(frozen=True, slots=True)
class SnapshotRefused:
    """What member `peer_id` published could not be taken in: its last good snapshot stays. `reason`: one line."""

    cid: str
    pid: str
    fed_id: str
    peer_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class FederatedUpdated:
    """The federated statistics changed. `digest` and `inputs`: as in the project's info; empty, and `rows` 0, if nobody
    shares any more."""

    cid: str
    pid: str
    fed_id: str
    rows: int
    digest: str
    inputs: str


@dataclass(frozen=True, slots=True)
class ModelBuilt:
    """A model can be used. `source`: `federated` or `local`; `rows`: what it was built from."""

    cid: str
    pid: str
    model_id: str
    algorithm: str
    source: str
    rows: int
    build_ms: int


Event = SnapshotPublished | SnapshotAccepted | SnapshotRefused | FederatedUpdated | ModelBuilt
