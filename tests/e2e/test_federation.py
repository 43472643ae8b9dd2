"""Federations from create to predict, over HTTP and every transport, against the fit on the pooled rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

from gramian.client import BadRequest

pytestmark = pytest.mark.transports("nats", "s3", "memory", slow=("s3",))
Read = Callable[..., tuple[list[str], np.ndarray]]


def diabetes() -> tuple[list[str], np.ndarray]:
    data = load_diabetes(scaled=False)
    return [*data.feature_names, "target"], np.column_stack([data.data, data.target])


def assert_equal_models_and_pooled_predictions(federation, names, rows, test, pooled) -> None:
    """All nodes have byte-equal coefficients and predict what the pooled fit predicts, within 1e-8."""
    expected = pooled(rows, test)
    scale = np.maximum(np.abs(expected), rows[:, -1].std())
    tables = []
    for each in federation.sites:
        each.client.build(federation.pid, "m", names[-1])
        predictions = each.client.predict(federation.pid, "m", names[:-1], test)
        values = np.array([float(row["res"]) for row in predictions])
        assert np.abs((values - expected) / scale).max() < 1e-8
        tables.append(each.client.model(federation.pid, "m")["extra"])
    assert all(table == tables[0] for table in tables)


@pytest.mark.parametrize("encrypt", [False, True])
def test_three_nodes_predict_like_one_that_holds_all_rows(federate, pooled, encrypt: bool) -> None:
    """The main job, with and without encryption."""
    names, rows = diabetes()
    federation = federate(3, fed_encrypt=encrypt)
    federation.learn(names, "C" * 11, [rows[:40], rows[40:160], rows[160:]])
    federation.sync()
    federation.assert_converged(len(rows))
    assert_equal_models_and_pooled_predictions(federation, names, rows, rows[:, :-1], pooled)


def test_housing_of_three_unequal_peers_is_fitted_like_the_pooled_rows(federate, pooled, shared_data: Read) -> None:
    """The smallest peer has 25 rows for 14 attributes: barely above the rule."""
    parts = [shared_data(f"housing_fed3/housing{number}.csv") for number in (1, 2, 3)]
    names, test = shared_data("housing_fed3/housing_test.csv")
    federation = federate(3)
    types = ["B" if name == "CHAS" else "C" for name in names]
    federation.learn(names, types, [part for _, part in parts])
    federation.sync()
    rows = np.vstack([part for _, part in parts])
    federation.assert_converged(len(rows))
    assert_equal_models_and_pooled_predictions(federation, names, rows, test[:, :-1], pooled)


def test_real_estate_ignores_the_row_number(federate, pooled, shared_data: Read) -> None:
    """A column of type X goes nowhere: not into statistics, not into models."""
    parts = [shared_data(f"real_estate_fed3/train{number}_re.csv") for number in (1, 2, 3)]
    names, test = shared_data("real_estate_fed3/test_all.csv")
    federation = federate(3)
    federation.learn(names, "X" + "C" * 7, [part for _, part in parts])
    federation.sync()
    rows = np.vstack([part for _, part in parts])
    federation.assert_converged(len(rows))
    info = federation.admin.client.project_info(federation.pid)
    assert info["attributeNames"] == names[1:]
    assert_equal_models_and_pooled_predictions(federation, names[1:], rows[:, 1:], test[:, 1:-1], pooled)


def test_plain_project_learns_builds_and_predicts_alone(site, pooled) -> None:
    """No federation needed."""
    names, rows = diabetes()
    alone = site("alone")
    alone.client.create_project("p")
    for part in np.array_split(rows, 7):
        alone.client.learn("p", names, "C" * 11, part)
    alone.client.build("p", "m", "target")
    predictions = alone.client.predict("p", "m", names[:-1], rows[:20, :-1])
    values = np.array([float(row["res"]) for row in predictions])
    np.testing.assert_allclose(values, pooled(rows, rows[:20, :-1]), rtol=1e-10)
    info = alone.client.project_info("p")
    assert info["params"]["local_rows"] == "442"
    assert info["modelsList"] == ["m"]
    assert alone.client.model("p", "m")["info"]["source"] == "local"


def test_later_rows_and_forgotten_rows_reach_everybody(federate, pooled) -> None:
    """Learn, sync, learn more, forget some: the federation follows."""
    names, rows = diabetes()
    federation = federate(2)
    federation.learn(names, "C" * 11, [rows[:100], rows[100:200]])
    federation.sync()
    first = federation.params("fed_digest")[0]
    federation.admin.client.learn(federation.pid, names, "C" * 11, rows[200:300])
    federation.sites[1].client.forget(federation.pid, names, "C" * 11, rows[100:150])
    federation.sync()
    kept = np.vstack([rows[:100], rows[150:200], rows[200:300]])
    federation.assert_converged(len(kept))
    assert federation.params("fed_digest")[0] != first
    assert_equal_models_and_pooled_predictions(federation, names, kept, rows[:10, :-1], pooled)


def test_late_joiner_without_rows_gets_the_federation_and_builds_the_same_model(federate, site, pooled) -> None:
    """A node that has nothing to share may still use what the others share."""
    names, rows = diabetes()
    federation = federate(2)
    federation.learn(names, "C" * 11, [rows[:200], rows[200:]])
    federation.sync()
    federation.join(site("late"))
    federation.sync()
    federation.assert_converged(len(rows))
    assert federation.params("local_rows") == ["200", "242", "0"]
    assert_equal_models_and_pooled_predictions(federation, names, rows, rows[:10, :-1], pooled)


def test_node_below_the_rule_publishes_nothing_and_says_how_many_rows_are_missing(federate) -> None:
    """11 attributes need 16 rows."""
    names, rows = diabetes()
    federation = federate(2)
    federation.learn(names, "C" * 11, [rows[:10], rows[10:100]])
    federation.sync()
    federation.assert_converged(90)
    log = federation.admin.client.sync_log(federation.pid)
    assert any("6 more rows needed" in line for line in log)
    federation.admin.client.learn(federation.pid, names, "C" * 11, rows[100:106])
    federation.sync()
    federation.assert_converged(106)


def test_small_additions_wait_until_enough_have_come_together(federate) -> None:
    """The difference of two published snapshots never shows a few rows."""
    names, rows = diabetes()
    federation = federate(1)
    client = federation.admin.client
    client.learn("study", names, "C" * 11, rows[:100])
    federation.sync()
    client.learn("study", names, "C" * 11, rows[100:110])
    federation.sync()
    assert federation.params("fed_rows") == ["100"]
    assert federation.params("local_rows") == ["110"]
    client.learn("study", names, "C" * 11, rows[110:116])
    federation.sync()
    assert federation.params("fed_rows") == ["116"]


def test_node_with_other_attributes_refuses_itself_and_names_the_difference(federate) -> None:
    """The admin's first snapshot pins names and types."""
    names, rows = diabetes()
    federation = federate(2)
    federation.admin.client.learn("study", names, "C" * 11, rows[:100])
    federation.admin.client.sync("study")
    federation.sites[1].client.learn("study", [*names[:-1], "other"], "C" * 11, rows[100:200])
    federation.sync()
    assert federation.params("fed_rows") == ["100", "100"]
    log = federation.sites[1].client.error_log("study")
    assert any("missing target; additional other" in line for line in log)


def test_empty_cells_are_missing_values_and_merge_like_pooled_gaps(federate) -> None:
    """Statistics of columns with gaps are equal on all nodes, and the models too."""
    rng = np.random.default_rng(7)
    names, rows = diabetes()
    gappy = rows.copy()
    gappy[rng.random(gappy.shape) < 0.05] = np.nan
    federation = federate(2)
    federation.learn(names, "C" * 11, [gappy[:150], gappy[150:]])
    federation.sync()
    federation.assert_converged(len(rows))
    models = []
    for each in federation.sites:
        each.client.build("study", "m", "target")
        models.append(each.client.model("study", "m")["extra"])
    assert models[0] == models[1]


def test_build_of_what_cannot_be_built_says_why(federate) -> None:
    """Clear texts, no 500."""
    names, rows = diabetes()
    federation = federate(1)
    client = federation.admin.client
    with pytest.raises(BadRequest, match="no rows yet"):
        client.build("study", "m", "target")
    client.learn("study", names, "C" * 11, rows)
    for target, inputs, algo, words in (
        ("nothing", None, "mlr", "no attribute 'nothing'"),
        ("target", ["bmi", "target"], "mlr", "both target and input"),
        ("target", None, "lda", "'lda' is not available yet"),
    ):
        with pytest.raises(BadRequest, match=words):
            client.build("study", "m", target, inputs, algo)
    with pytest.raises(BadRequest, match="no such model"):
        client.predict("study", "m", names, rows[:1])
