"""Building, describing, deleting models, and predicting with them."""

from __future__ import annotations

import json
import time
from secrets import token_hex
from typing import Any

import msgspec

from gramian import events
from gramian.domain.canonical import canonical_json
from gramian.domain.frame import Frame
from gramian.domain.models import inference, linear, mlr
from gramian.domain.names import check_id
from gramian.errors import BlobMissing, InvalidRequest, Unavailable
from gramian.faults import step
from gramian.node import Node
from gramian.ports import Delete
from gramian.usecases import jobs, records
from gramian.usecases.modeling import context as contexts
from gramian.usecases.modeling import source
from gramian.usecases.modeling.context import MLContext
from gramian.usecases.projects import ledger
from gramian.usecases.projects.lifecycle import Project, find
from gramian.usecases.records import MODEL

ALGORITHMS = ("mlr",)
READ_ATTEMPTS = 5


class Build(msgspec.Struct, frozen=True):
    """What a job builds: a model of `target` from `inputs`, all by name."""

    model_id: str
    target: str
    inputs: list[str]


def build(node: Node, cid: str, pid: str, model_id: str, algorithm: str, context: MLContext) -> int:
    """Submit the building of a model and return the job's number. Raises InvalidRequest for what cannot work."""
    project = find(node, cid, pid)
    check_id("modelid", model_id)
    if algorithm.lower() not in ALGORITHMS:
        raise InvalidRequest(f"the algorithm '{algorithm[:40]}' is not available yet; known: {', '.join(ALGORITHMS)}")
    if context.extra_parameters:
        named = ", ".join(sorted(context.extra_parameters))[:200]
        raise InvalidRequest(f"mlr takes no extraParameters yet; leave out {named}")
    used = source.statistics(node, project)
    known = ledger.extended(ledger.attributes(node, project), used.moments.schema.names, used.moments.schema.types)
    target = contexts.target(context, known)
    inputs = contexts.inputs(context, known, target)
    return jobs.submit(node, cid, "build", Build(model_id, target, inputs), project=project)


def run_build(task: jobs.Task) -> None:
    """The job. Raises InvalidRequest."""
    wanted = task.arguments(Build)
    _build(task.node, task.project(), wanted.model_id, wanted.target, wanted.inputs)


def info(node: Node, cid: str, pid: str, model_id: str) -> dict[str, object]:
    """The contract's ModelInfo."""
    project, stored, model, content = _load(node, cid, pid, model_id)
    learned = ledger.attributes(node, project)
    order = ledger.extended(learned, (*model.inputs, model.target), content["types"])
    names, table = inference.coefficient_table(model)
    return {
        "modelId": model_id,
        "modelType": stored.algorithm,
        "modelBuilt": stored.count,
        "buildTime": stored.build_ms,
        "creationDate": stored.created_at,
        "attributeNames": list(model.inputs),
        "attributeIndexes": [order.names.index(name) for name in model.inputs],
        "attributeTypes": [order.types[order.names.index(name)] for name in model.inputs],
        "targetNames": [model.target],
        "targetindexes": [order.names.index(model.target)],
        "predictInfo": ["res"],
        "scoreInfo": [],
        "info": {**_summary(model), **content["about"]},
        "extra": {
            "coefficients": _dataframe(names, ["X"] + ["C"] * (len(names) - 1), table),
            f"mean_{model.target}": _dataframe([model.target], ["C"], [[repr(model.target_mean)]]),
        },
    }


def delete(node: Node, cid: str, pid: str, model_id: str) -> None:
    """Raises InvalidRequest if there is no such model."""
    project = find(node, cid, pid)
    stored = _stored(node, project, model_id)
    node.state.write(Delete(project.partition, MODEL + model_id))
    node.blobs.delete(project.uid, stored.blob)


def predict(node: Node, cid: str, pid: str, model_id: str, frame: Frame) -> list[dict[str, str]]:
    """One map per row, the prediction under `res`. Columns that the model does not use are ignored."""
    _, _, model, _ = _load(node, cid, pid, model_id)
    missing = [name for name in model.inputs if name not in frame.names]
    if missing:
        raise InvalidRequest(f"the rows lack the model's input '{missing[0]}'; send it, with empty cells where unknown")
    values = linear.predict(model, frame.as_numbers().matrix(model.inputs))
    return [{"res": repr(value)} for value in values.tolist()]


def _build(node: Node, project: Project, model_id: str, target: str, inputs: list[str]) -> None:
    started = time.monotonic()
    used = source.statistics(node, project)
    names = used.moments.schema.names
    try:
        # In canonical order, so that nodes whose attributes have other indexes build the same bits.
        model = mlr.fit(used.moments, sorted(names.index(name) for name in inputs), names.index(target))
    except ValueError as error:
        raise InvalidRequest(f"the model cannot be built: {error}") from error
    types = "".join(used.moments.schema.types[names.index(name)] for name in (*model.inputs, target))
    about = {"source": used.kind, "fed_digest": used.digest, "fed_inputs": used.inputs}
    content = {"unit": token_hex(8), "model": linear.to_json(model), "types": types, "about": about}
    data = canonical_json(content)
    blob = node.blobs.put(project.uid, data)
    step("build.blob")
    build_ms = round((time.monotonic() - started) * 1000)
    _store(node, project, model_id, blob, used.kind, build_ms)
    node.observe(events.ModelBuilt(project.cid, project.pid, model_id, "mlr", used.kind, model.n, build_ms))


def _store(node: Node, project: Project, model_id: str, blob: str, kind: str, build_ms: int) -> None:
    superseded: list[str] = []

    def replaced(old: records.Model) -> records.Model:
        superseded[:] = [old.blob] if old.blob else []
        return records.Model("mlr", blob, int(node.clock() * 1000), build_ms, kind, old.count + 1)

    empty = records.Model("mlr", "", 0, 0, kind, 0)
    records.update(node.state, project.partition, MODEL + model_id, empty, replaced)
    step("build.commit")
    for digest in superseded:
        node.blobs.delete(project.uid, digest)


def _stored(node: Node, project: Project, model_id: str) -> records.Model:
    stored = records.load(node.state, project.partition, MODEL + check_id("modelid", model_id), records.Model)
    if stored is None:
        raise InvalidRequest(f"Generic Exception <Error no such model <{model_id}>>")
    return stored.record


def _load(
    node: Node, cid: str, pid: str, model_id: str
) -> tuple[Project, records.Model, linear.LinearModel, dict[str, Any]]:
    project = find(node, cid, pid)
    for _ in range(READ_ATTEMPTS):
        stored = _stored(node, project, model_id)
        try:
            content = json.loads(node.blobs.get(project.uid, stored.blob))
        except BlobMissing:
            # It was built anew in between.
            continue
        return project, stored, linear.from_json(content["model"]), content
    raise Unavailable(f"the model '{model_id}' is damaged, or is being built anew; build it again")


def _summary(model: linear.LinearModel) -> dict[str, str]:
    notes = {
        "buildStatus": '"No Error"',
        "n": str(model.n),
        "rank": str(model.rank),
        "df": str(model.df),
        "r2": _text(model.r2),
        "adj_r2": _text(model.adj_r2),
        "sse": repr(model.sse),
        "expected_digits": str(model.digits),
        "constant_attributes": ",".join(model.constants),
        "not_estimable_attributes": ",".join(model.not_estimable),
        "complete": str(model.complete).lower(),
    }
    if model.shrinkage > 0:
        notes["shrinkage"] = repr(model.shrinkage)
        notes["note"] = "missing values made the correlations inconsistent; they were shrunk towards independence"
    if model.bits_may_differ:
        notes["bits_may_differ"] = "true"
    return notes


def _text(number: float | None) -> str:
    return "" if number is None else repr(number)


def _dataframe(names: list[str], types: list[str], data: list[list[str]]) -> dict[str, object]:
    return {"attributeNames": names, "attributeTypes": types, "data": data}
