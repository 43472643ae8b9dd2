"""Large files over HTTP: from a client's disk to the statistics."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gramian.client import BadRequest, ClientError, RequestFailed
from gramian.client.rows import dataframe

NAMES = ["x", "flag", "note"]
ROWS = np.column_stack([np.random.default_rng(0).normal(size=500), np.arange(500) % 2])


@pytest.fixture
def here(site: Callable[..., Any]) -> Any:
    made = site("org")
    made.client.create_project("p")
    return made


def write_csv(path: Path) -> Path:
    lines = [f"{x!r},{int(flag)},row {i}" for i, (x, flag) in enumerate(ROWS.tolist())]
    path.write_text("\n".join([",".join(NAMES), *lines]))
    return path


def write_parquet(path: Path) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"x": ROWS[:, 0], "flag": ROWS[:, 1] == 1, "note": ["row"] * 500}), path)
    return path


def write_json(path: Path) -> Path:
    path.write_text(json.dumps(dataframe(NAMES, "CBX", [[*row, "row"] for row in ROWS.tolist()])))
    return path


@pytest.mark.parametrize("write", [write_csv, write_parquet, write_json])
def test_file_of_each_format_is_learned(here: Any, tmp_path: Path, write: Callable[[Path], Path]) -> None:
    """Types are found, text is ignored, and a model of it is that of the rows sent as they are."""
    kind = write.__name__.removeprefix("write_")
    here.client.learn_file("p", write(tmp_path / f"rows.{kind}"))
    info = here.client.project_info("p")
    assert (info["attributeNames"], info["attributeTypes"]) == (["x", "flag"], ["C", "B"])
    assert info["params"]["local_rows"] == "500"
    (job,) = here.client.jobs()
    assert (job["jobType"], job["current"], job["maximum"], job["isDone"]) == ("upload", 1, 1, True)
    assert job["details"] == {"progress": "500 rows learned; ignored: note"}
    here.client.create_project("q")
    here.client.learn("q", ["x", "flag"], "CB", ROWS)
    for pid in ("p", "q"):
        here.client.build(pid, "m", "flag")
    for key in ("r2", "sse", "n"):
        mine, theirs = (float(here.client.model(pid, "m")["info"][key]) for pid in ("p", "q"))
        assert mine == pytest.approx(theirs, rel=1e-12)


def test_types_that_the_caller_gives_hold(here: Any, tmp_path: Path) -> None:
    """And what they do not name is ignored."""
    here.client.learn_file("p", write_csv(tmp_path / "rows.csv"), {"flag": "C"})
    info = here.client.project_info("p")
    assert (info["attributeNames"], info["attributeTypes"]) == (["flag"], ["C"])


def test_upload_call_is_answered_with_where_to_put(here: Any) -> None:
    """For clients of any language: an address that needs no signature, and when it ends."""
    reply = here.client.request("POST", "/projects/p/uploads", {"format": "csv", "size": "10"})
    about = reply.mapping("upload")
    assert reply.http_status == 201
    assert about["method"] == "PUT"
    assert about["url"].startswith(f"{here.url}/symetry/uploads/")
    assert about["headers"] == {"Content-Type": "application/octet-stream"}


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ({"format": "csv"}, 400, "size is missing"),
        ({"format": "xlsx", "size": "1"}, 400, "the format 'xlsx' is not known; send csv"),
        ({"format": "csv", "size": "-1"}, 400, "size must be the number of bytes"),
        ({"format": "csv", "size": "0"}, 413, "an upload may have 1 to 5368709120 bytes"),
        ({"format": "csv", "size": "9" * 18}, 413, "send the rows in several files"),
    ],
)
def test_upload_that_cannot_be_is_refused(here: Any, query: dict[str, str], status: int, message: str) -> None:
    """Before a byte is sent."""
    with pytest.raises(RequestFailed, match=message) as caught:
        here.client.request("POST", "/projects/p/uploads", query)
    assert caught.value.http_status == status


def test_learning_what_cannot_be_used_is_a_failed_job(here: Any, tmp_path: Path) -> None:
    """The reason names the row; corrected by types, the same upload is learned."""
    path = write_csv(tmp_path / "rows.csv")
    upload = here.client.upload("p", path)
    with pytest.raises(BadRequest, match="row 1, attribute 'note': 'row 0' is not a number"):
        here.client.wait_for_job(here.client.learn_upload("p", upload, {"x": "C", "note": "C"}))
    with pytest.raises(BadRequest, match="attributeNames and attributeTypes, and nothing else"):
        here.client.request("POST", f"/projects/p/uploads/{upload}/learn", body={"types": "CC"})
    here.client.wait_for_job(here.client.learn_upload("p", upload, {"x": "C"}))
    assert here.client.project_info("p")["params"]["local_rows"] == "500"


def test_projects_of_others_are_out_of_reach(here: Any, tmp_path: Path) -> None:
    """An upload belongs to its project, whoever knows its id."""
    upload = here.client.upload("p", write_csv(tmp_path / "rows.csv"))
    here.client.create_project("q")
    with pytest.raises(BadRequest, match="the project 'q' has no upload"):
        here.client.learn_upload("q", upload)


def test_file_that_is_gone_or_empty_is_the_callers_affair(here: Any, tmp_path: Path) -> None:
    """Told before anything is sent, and by the server."""
    with pytest.raises(FileNotFoundError):
        here.client.upload("p", tmp_path / "none.csv")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(ClientError, match="1 to 5368709120 bytes"):
        here.client.upload("p", tmp_path / "empty.csv")
