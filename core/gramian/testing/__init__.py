"""Contract suites that every plugin of a kind passes, ours and yours.

    from gramian.testing import contract

    TestAcme = contract("state.acme")

runs the suite of the kind against the installed plugin: this needs pytest (`pip install 'gramian[testing]'`). The
suites themselves (`gramian.testing.state.StateStoreContract` and so on) can be subclassed where that is not enough.
"""

import pytest

SUITES = {
    "transport": "gramian.testing.transport:TransportContract",
    "compute": "gramian.testing.compute:ComputeContract",
    "identity": "gramian.testing.identity:IdentityContract",
    "state": "gramian.testing.state:StateStoreContract",
    "tokens": "gramian.testing.tokens:TokenStoreContract",
    "blobs": "gramian.testing.blobs:BlobStoreContract",
    "scheduler": "gramian.testing.scheduler:SchedulerContract",
    "jobs": "gramian.testing.jobs:JobRunnerContract",
    "uploads": "gramian.testing.uploads:UploadStoreContract",
    "observer": "gramian.testing.observer:ObserverContract",
}
"""By kind."""

PARTS = [f"gramian.testing.{part}" for part in ("link_blobs", "link_nudges", "outages", "processes", "state_queries")]
"""Modules that have parts of them."""


def show_values() -> None:
    """Have suites that are imported from now on show the values that differ, if pytest runs."""
    pytest.register_assert_rewrite(*(suite.partition(":")[0] for suite in SUITES.values()), *PARTS)


show_values()

from gramian.testing.live import contract  # noqa: E402

__all__ = ["SUITES", "contract"]
