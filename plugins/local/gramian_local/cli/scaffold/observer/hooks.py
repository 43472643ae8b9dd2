"""What happens in federations, as lines of JSON for Acme's monitoring."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from gramian.events import Event, FederatedUpdated, ModelBuilt, SnapshotAccepted, SnapshotPublished, SnapshotRefused
from gramian.hookspecs import Option, Options, hookimpl

gramian_api = "1"


@hookimpl
def gramian_options(kind: str, name: str) -> Sequence[Option]:
    return [Option("path", Path, required=True, help="The file that lines are appended to.")]


@hookimpl
def gramian_snapshot_published(options: Options, event: SnapshotPublished) -> None:
    _append(options, event)


@hookimpl
def gramian_snapshot_accepted(options: Options, event: SnapshotAccepted) -> None:
    _append(options, event)


@hookimpl
def gramian_snapshot_refused(options: Options, event: SnapshotRefused) -> None:
    _append(options, event)


@hookimpl
def gramian_federated_updated(options: Options, event: FederatedUpdated) -> None:
    _append(options, event)


@hookimpl
def gramian_model_built(options: Options, event: ModelBuilt) -> None:
    _append(options, event)


def _append(options: Options, event: Event) -> None:
    line = json.dumps({"event": type(event).__name__, **dataclasses.asdict(event)})
    with options["path"].open("a") as file:
        file.write(line + "\n")  # one small write in append mode: lines of several processes do not mix
