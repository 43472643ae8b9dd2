"""Gramian and a plugin of a third party as people install them: wheels, in an environment with nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gramian_local.cli import scaffold

ROOT = Path(__file__).parents[2]
FEDERATION = """
import json, sys
from pathlib import Path

import numpy as np
from gramian_local.process import ServerProcess

import gramian, gramian_harbour

place = Path(sys.argv[1])
env = {"GRAMIAN_TRANSPORT": "harbour", "GRAMIAN_OBSERVERS": "quay", "GRAMIAN_QUAY_PATH": str(place / "events")}
servers = [ServerProcess(place / name, "--port", "0", "--no-nats", env=env) for name in ("a", "b")]
with servers[0], servers[1]:
    clients = [server.create_user(server.home.name) for server in servers]
    clients[0].create_federation("p", fed_name="p", sync_sched="d1", harbour_path=str(place / "bus"), fed_encrypt=True)
    clients[1].join("p", clients[0].invite("p", "password", servers[0].url))
    for number, client in enumerate(clients):
        rows = np.random.default_rng(number).normal(size=(40 + 20 * number, 3))
        client.learn("p", ["x", "y", "z"], "CCC", rows)
    for client in clients * 2:
        client.sync("p")
    clients[1].build("p", "m", target="z")
    params = [client.project_info("p")["params"] for client in clients]
    print(json.dumps({
        "rows": [each["fed_rows"] for each in params],
        "digests": [each["fed_digest"] for each in params],
        "type": clients[0].federation_info("p")["fed_type"],
        "model": clients[1].model("p", "m")["info"]["n"],
        "events": sorted({json.loads(line)["event"] for line in (place / "events").read_text().splitlines()}),
        "from": [gramian.__file__, gramian_harbour.__file__],
    }))
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Nothing of this environment leads there: no path, no option, no home."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "GRAMIAN"))}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with wheels of Gramian, of a transport and of an observer, all built here."""
    place = tmp_path_factory.mktemp("clean")
    scaffold.write("harbour", "transport", place / "harbour")
    scaffold.write("quay", "observer", place / "quay")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps")
    for source in (ROOT, place / "harbour", place / "quay"):
        run(*pip, "--wheel-dir", place / "wheels", source, cwd=place)
    run(sys.executable, "-m", "venv", place / "venv", cwd=place)
    (gramian,) = (place / "wheels").glob("gramian-[0-9]*.whl")
    others = [wheel for wheel in (place / "wheels").iterdir() if wheel != gramian]
    python = place / "venv" / "bin" / "python"
    wheels = (f"{gramian}[local]", *others)
    run(python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *wheels, cwd=place)
    return place


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_federation_runs_over_an_installed_transport_of_a_third_party(clean: Path) -> None:
    """Two servers that select it by the environment; founded by its keys, encrypted, merged to the same bits."""
    (clean / "federation.py").write_text(FEDERATION)
    (clean / "data").mkdir()
    figures = json.loads(run(clean / "venv/bin/python", "-I", "federation.py", clean / "data", cwd=clean))
    assert figures["rows"] == ["100", "100"]
    assert len(set(figures["digests"])) == 1
    assert figures["digests"][0]
    assert (figures["type"], figures["model"]) == ("harbour", "100")
    assert figures["events"] == ["FederatedUpdated", "ModelBuilt", "SnapshotAccepted", "SnapshotPublished"]
    assert all(str(clean / "venv") in path for path in figures["from"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_installed_wheel_lists_all_plugins_and_writes_new_ones(clean: Path) -> None:
    """Also without what only developers install: templates are in the wheel, contracts say what they need."""
    gramian = clean / "venv/bin/gramian"
    listed = [line.split("\t")[1] for line in run(gramian, "plugins", "list", cwd=clean).splitlines()]
    assert {"transport.harbour", "observer.quay", "transport.nats", "state.sqlite"} <= set(listed)
    assert "harbour_*" in run(gramian, "plugins", "show", "harbour", cwd=clean)
    for kind in scaffold.KINDS:
        run(gramian, "plugins", "new", f"some{kind}", "--kind", kind, cwd=clean)
        assert (clean / f"gramian-some{kind}" / "pyproject.toml").exists()
    refused = subprocess.run([gramian, "plugins", "check", "harbour"], capture_output=True, text=True, cwd=clean)
    assert refused.returncode == 1
    assert "pip install 'gramian[testing]'" in refused.stderr
