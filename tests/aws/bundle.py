"""Building the bundle and deploying it to the emulator, by `sam` as on AWS.

For the tests, and as a program for `make deploy-local`: it starts an emulator and a nats-server, deploys the built
template there, prints the address and a user's credentials, and stays until Ctrl-C.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SAM = ROOT / ".venv-sam" / "bin" / "sam"
PREFIXED, UNPREFIXED = "prod", "$default"
"""Stages: one that is a prefix of every path, and the template's default, which is none."""
USER = "clinic"
RUNTIME = f"python{sys.version_info[0]}.{sys.version_info[1]}"


@dataclass(frozen=True, slots=True)
class Stack:
    """A deployed bundle. `url`: its API's, as this machine reaches it. `outputs`: those of the template."""

    name: str
    url: str
    outputs: Mapping[str, str]

    @property
    def environment(self) -> dict[str, str]:
        """What the `gramian` command needs to work on this node."""
        return dict(pair.split("=", 1) for pair in self.outputs["NodeEnvironment"].split())

    def create_user(self, cid: str, emulator: Mapping[str, str], *options: str) -> str:
        """Add a user by the command line, as an operator does; returns the secret key."""
        command = [sys.executable, "-m", "gramian_local", "user", "create", cid, *options]
        env = {**os.environ, **emulator, **self.environment}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=60)
        key: str = json.loads(done.stdout)["secretKey"]
        return key


def build(directory: Path) -> Path:
    """`sam build`, once for all processes that share the directory; returns the built template."""
    directory.mkdir(parents=True, exist_ok=True)
    template = directory / "built" / "template.yaml"
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / "done").exists():
            # For this very Python: the emulator ignores a function's Runtime and runs its own.
            chosen = ("--parameter-overrides", f"Runtime={RUNTIME}")
            programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            env = {"RUNTIME": RUNTIME, "PYTHON": sys.executable, "PATH": programs}
            sam("build", "--parallel", "--build-dir", template.parent, "--base-dir", ROOT, *chosen, env=env)
            (directory / "done").touch()
    return template


def deploy(template: Path, name: str, emulator: Mapping[str, str], stage: str = UNPREFIXED, **parameters: str) -> Stack:
    """`sam deploy` to the emulator whose environment is given."""
    assert emulator["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:"), "never to the real AWS"
    values = {"Runtime": RUNTIME, **parameters} | ({} if stage == UNPREFIXED else {"StageName": stage})
    chosen = [f"{key}={value}" for key, value in values.items()]
    sam(
        *("deploy", "--template-file", template, "--stack-name", name, "--resolve-s3", "--no-confirm-changeset"),
        *("--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND", "--no-progressbar"),
        *("--parameter-overrides", *chosen),
        env=emulator,
    )
    described = client("cloudformation", emulator).describe_stacks(StackName=name)["Stacks"][0]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in described["Outputs"]}
    # Names below `.localhost` do not resolve everywhere; the emulator knows the API by this path too.
    url = f"{emulator['AWS_ENDPOINT_URL']}/_aws/execute-api/{outputs['ApiId']}"
    return Stack(name, url if stage == UNPREFIXED else f"{url}/{stage}", outputs)


def client(service: str, emulator: Mapping[str, str]) -> Any:
    """A client of a service of the emulator, as the account's root."""
    import botocore.session

    return botocore.session.Session().create_client(
        service,
        endpoint_url=emulator["AWS_ENDPOINT_URL"],
        region_name=emulator["AWS_REGION"],
        aws_access_key_id=emulator["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=emulator["AWS_SECRET_ACCESS_KEY"],
    )


def sam(*arguments: str | Path, env: Mapping[str, str]) -> None:
    """Raises AssertionError with what it said if it fails."""
    done = subprocess.run(
        [SAM, *arguments],
        cwd=ROOT,
        env={**os.environ, "SAM_CLI_TELEMETRY": "0", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"sam {arguments[0]}: {done.stdout[-3000:]}"


@contextmanager
def emulated(directory: Path, port: int) -> Iterator[dict[str, str]]:
    """An emulator on its own; yields the environment that leads there."""
    python, program = ROOT / ".venv-aws" / "bin" / "python", Path(__file__).with_name("emulator.py")
    with (directory / "emulator.log").open("w") as log:
        process = subprocess.Popen(
            [python, program, "--port", str(port), "--directory", directory, "--with-parent", str(os.getpid())],
            env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(directory)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
        }
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)


def main() -> None:
    """Deploy and stay."""
    import tempfile
    import time
    from urllib.request import urlopen

    from gramian_local.nats_server import NatsServer

    over = threading.Event()
    for asked in (signal.SIGINT, signal.SIGTERM):
        signal.signal(asked, lambda _signal, _frame: over.set())
    port, template = int(os.environ.get("EMULATOR_PORT", "4566")), ROOT / ".aws-sam" / "build" / "template.yaml"
    with (
        tempfile.TemporaryDirectory(prefix="gramian-aws-", ignore_cleanup_errors=True) as name,
        emulated(Path(name), port) as emulator,
        NatsServer.start(Path(name) / "nats", port=4222) as nats,
    ):
        deadline = time.monotonic() + 30
        while True:
            try:
                urlopen(f"{emulator['AWS_ENDPOINT_URL']}/_ministack/health", timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < deadline, (Path(name) / "emulator.log").read_text()[-2000:]
                time.sleep(0.1)
        print("deploying template.yaml to the emulator ...", flush=True)
        stack = deploy(template, "gramian", emulator)
        key = stack.create_user(USER, emulator)
        print(
            f"\n  API    {stack.url}\n  user   {USER}\n  key    {key}\n  NATS   {nats.url}\n\n"
            "In another terminal, three organisations on it, each a project of this user:\n\n"
            f"  GRAMIAN_SECRET_KEY={key} .venv/bin/gramian demo --url {stack.url} --cid {USER} --nats {nats.url}\n\n"
            "Ctrl-C ends it and removes everything.",
            flush=True,
        )
        over.wait()


if __name__ == "__main__":
    main()
