"""Who a process on AWS is: the node's master key in Secrets Manager, and a life that ends at a deadline.

Nobody can ask whether a function still runs. But each of its runs ends by a time that is known from the start, so this
time is the mark that it leaves: past it, what it had begun is nobody's any more.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Final

from gramian.errors import StoreError
from gramian.hookspecs import Option, Options, hookimpl
from gramian.ports import Identity
from gramian_aws import clients
from gramian_aws.errors import translating

gramian_api = "1"

MIN_SECRET_CHARS: Final = 43
"""Of letters and digits: as hard to guess as 32 random bytes."""
CLOCKS_DIFFER_S: Final = 5


@hookimpl
def gramian_options() -> Sequence[Option]:
    return (
        Option("master_key_secret", required=True, help="ARN of the secret that holds the node's key."),
        Option("lifetime_s", int, 900, minimum=1, maximum=604_800, help="Seconds until this process has surely ended."),
    )


@hookimpl
def gramian_identity(options: Options) -> Identity:
    return AwsIdentity(options["master_key_secret"], options["lifetime_s"])


class AwsIdentity:
    """`gramian.ports.Identity`. The key is read when first used, and kept in this process's memory only."""

    def __init__(self, secret_id: str, lifetime_s: float, clock: Callable[[], float] = time.time) -> None:
        """`clock`: unix seconds."""
        self._secret_id = secret_id
        self._clock = clock
        self.instance = instance_until(clock() + lifetime_s)

    @cached_property
    def master_key(self) -> bytes:
        """Raises StoreError."""
        with translating("secretsmanager:GetSecretValue", f"secret {self._secret_id}"):
            text = clients.client("secretsmanager").get_secret_value(SecretId=self._secret_id).get("SecretString", "")
        if len(text) < MIN_SECRET_CHARS:
            raise StoreError(
                f"the secret {self._secret_id} must hold at least {MIN_SECRET_CHARS} random letters and digits"
            )
        return hashlib.sha256(text.encode()).digest()

    def alive(self, instance: str) -> bool:
        """Whether that process's time is not over yet. A text of another form belongs to nobody."""
        return self._clock() < deadline_of(instance) + CLOCKS_DIFFER_S

    def close(self) -> None:
        """Nothing is held."""


def deadline_of(instance: str) -> int:
    """By when the process that left this mark has ended (unix seconds); 0 for a text that is no mark."""
    deadline = instance.partition("-")[0]
    return int(deadline) if deadline.isascii() and deadline.isdecimal() else 0


def instance_until(deadline: float, run: str = "") -> str:
    """The mark of a process that surely ends by `deadline` (unix seconds). `run`: what it has in common with earlier
    attempts at the same event, if anything."""
    return f"{int(deadline) + 1}-{run or secrets.token_hex(8)}"


def is_earlier_attempt(instance: str, mine: str) -> bool:
    """Whether a mark was left by an attempt at the event that I am another attempt at: it has ended, or will find that
    what it does is done already."""
    return instance != mine and instance.partition("-")[2] == mine.partition("-")[2] != ""
