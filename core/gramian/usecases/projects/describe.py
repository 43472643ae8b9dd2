"""The contract's ProjectInfo. Imports no numpy."""

from __future__ import annotations

import json

from gramian.errors import Refused
from gramian.node import Node
from gramian.usecases import records
from gramian.usecases.projects import ledger
from gramian.usecases.projects.lifecycle import Project
from gramian.usecases.records import FEDERATED, MODEL


def info(node: Node, project: Project) -> dict[str, object]:
    """Names and types in the order of their indexes, models, and in `params` how the federation stands."""
    known = attributes(node, project)
    models = records.listed(node.state, project.partition, MODEL, records.Model)
    local = ledger.read(node, project)
    return {
        "pid": project.pid,
        "type": "cpu",
        "attributeNames": known.names,
        "attributeIndexes": list(range(len(known.names))),
        "attributeTypes": list(known.types),
        "attributeStates": ["u"] * len(known.names),
        "modelsList": sorted(models),
        "modelTypeList": [models[id_].record.algorithm for id_ in sorted(models)],
        "modelAssessments": {},
        "modelPredictions": {},
        "dsList": [],
        "streams": [],
        "params": {
            "local_rows": str(local.rows),
            "doubtful_attributes": ",".join(local.base.record.doubtful),
            **_federation(node, project),
        },
        "categorySeparator": "$",
        "creationDate": project.record.created_at,
        "lastModificationDate": local.modified_at or project.record.created_at,
        "loaded": True,
        "persisted": project.record.persist,
        "histogramEnabled": False,
        "autoSave": True,
        "hash": -1,
        "isDirty": False,
    }


def attributes(node: Node, project: Project) -> records.Attributes:
    """Attributes by index: in the order in which they were learned here, then those of the federation that were not."""
    learned = ledger.attributes(node, project)
    if not project.record.federated:
        return learned
    from gramian.usecases.federation import membership

    try:
        pinned = membership.of(node, project).pinned_schema()
    except Refused:
        pinned = None
    return learned if pinned is None else ledger.extended(learned, pinned.names, pinned.types)


def _federation(node: Node, project: Project) -> dict[str, str]:
    if not project.record.federated:
        return {}
    from gramian.usecases.federation import control, journal, membership

    member = membership.of(node, project)
    federated = records.load(node.state, project.partition, FEDERATED, records.Federated)
    return {
        "fed_is_admin": _flag(member.is_admin),
        "fed_pulsing": _flag(member.record.pulsing),
        "fed_has_error": _flag(journal.has_errors(node, project)),
        "fed_digest": federated.record.digest if federated else "",
        "fed_inputs": federated.record.inputs if federated else "",
        "fed_rows": str(federated.record.rows if federated else 0),
        "fed_peers": json.dumps(control.peers(node, member)),
    }


def _flag(value: bool) -> str:
    return "true" if value else "false"
