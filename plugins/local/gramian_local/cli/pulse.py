"""`gramian pulse`: a node's work by one process that ends with it, such as a container on a machine with a GPU."""

from __future__ import annotations

import logging
import os

import click

from gramian.errors import Unavailable


@click.command()
@click.option("--cid", required=True, help="The user's id.")
@click.option("--pid", required=True, help="The project's id.")
def pulse(cid: str, pid: str) -> None:
    """Do the job of a project that waits for a GPU, else sync the project, once.

    The stores, the key and the compute backend are those of the environment, as for a server: GRAMIAN_HOME for a node
    on this machine; GRAMIAN_IDENTITY, GRAMIAN_STATE and so on for one on AWS. GRAMIAN_COMPUTE=cupy computes on a GPU.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("botocore").setLevel(logging.WARNING)
    from gramian import node
    from gramian.settings import Settings
    from gramian.usecases.federation import gpu

    with node.opened(Settings.from_env(os.environ)) as here:
        if failure := gpu.work(here, cid, pid):
            raise Unavailable(f"the job failed: {failure}")
