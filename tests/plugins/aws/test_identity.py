"""The master key in Secrets Manager, and lives that end at a deadline."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from gramian import plugins
from gramian.errors import PluginError, StoreError
from gramian.settings import Settings
from gramian.testing import contract
from gramian_aws import clients
from gramian_aws.identity import CLOCKS_DIFFER_S, AwsIdentity, deadline_of, instance_until, is_earlier_attempt

ENDED_S = 1 + 1 + CLOCKS_DIFFER_S + 1
"""A mark is good until its last second is over, and then for as long as clocks may differ; one for the test."""


class OnEmulator:
    """With a secret of its own."""

    @pytest.fixture
    def settings(self, emulator: Any, monkeypatch: pytest.MonkeyPatch) -> Settings:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        made = clients.client("secretsmanager").create_secret(Name=uuid.uuid4().hex, SecretString="x1" * 32)
        return Settings.from_env({"GRAMIAN_AWS_MASTER_KEY_SECRET": made["ARN"], **self.environment})


class TestContract(OnEmulator, contract("identity.aws")):
    """Of processes that live long."""

    @pytest.fixture
    def unreachable(self, silent: str, monkeypatch: pytest.MonkeyPatch) -> Any:
        credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
        for name, value in {**credentials, "AWS_ENDPOINT_URL": silent}.items():
            monkeypatch.setenv(name, value)
        return lambda: AwsIdentity("arn", 60)


@pytest.mark.slow
class TestEnds(OnEmulator, contract("identity.aws", environment={"GRAMIAN_AWS_LIFETIME_S": "1"}, end_s=ENDED_S)):
    """Of processes that have surely ended after a second."""


class Secrets:
    """Secrets Manager with one secret; counts how often it is read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.reads = 0

    def get_secret_value(self, SecretId: str) -> dict[str, Any]:
        self.reads += 1
        return {"SecretString": self.text}


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> Secrets:
    made = Secrets("x1" * 32)
    monkeypatch.setattr(clients, "client", lambda service: made)
    return made


def test_key_is_read_once_when_first_used(secrets: Secrets) -> None:
    """A process that answers `GET /openapi.json` only needs none."""
    identity = AwsIdentity("arn", 60)
    assert secrets.reads == 0
    assert len(identity.master_key) == 32
    assert identity.master_key == identity.master_key
    assert secrets.reads == 1
    assert identity.master_key == AwsIdentity("arn", 60).master_key


def test_equal_secrets_give_equal_keys_and_others_others(secrets: Secrets) -> None:
    """All processes of a node open what one of them sealed."""
    first = AwsIdentity("arn", 60).master_key
    secrets.text = "y1" * 32
    assert AwsIdentity("arn", 60).master_key != first


@pytest.mark.parametrize("text", ["", "short", "a" * 42])
def test_secret_that_can_be_guessed_is_refused_without_showing_it(secrets: Secrets, text: str) -> None:
    """The template's own has 64 letters and digits."""
    secrets.text = text
    with pytest.raises(StoreError, match="at least 43 random") as refused:
        _ = AwsIdentity("arn", 60).master_key
    assert not text or text not in str(refused.value).replace("at least", "")


def test_instance_lives_until_its_deadline() -> None:
    """And a little longer, since clocks differ."""
    now = 1000.0
    identity = AwsIdentity("arn", 60, clock=lambda: now)
    assert identity.alive(identity.instance)
    now = 1060.5 + CLOCKS_DIFFER_S / 2
    assert identity.alive(identity.instance)
    now = 1062.0 + CLOCKS_DIFFER_S
    assert not identity.alive(identity.instance)


@pytest.mark.parametrize("text", ["", "-", "abc", "12a-bc", "²-ab", "0" * 32, "f" * 32])
def test_text_that_is_no_mark_belongs_to_nobody(text: str) -> None:
    """Also that of a node that moved here from a machine."""
    assert not AwsIdentity("arn", 60).alive(text)


def test_marks_differ_and_tell_their_deadline() -> None:
    """Two runs with one deadline are two."""
    assert instance_until(1e9) != instance_until(1e9)
    assert deadline_of(instance_until(1e9 + 0.2)) == 1_000_000_001


def test_attempts_at_one_event_know_each_other() -> None:
    """By its id, whatever their deadlines are; an attempt is not its own predecessor."""
    first, second = instance_until(1e9, "8f5c-1"), instance_until(2e9, "8f5c-1")
    assert deadline_of(first) == 1_000_000_001
    assert is_earlier_attempt(first, second)
    assert not is_earlier_attempt(second, second)
    assert not is_earlier_attempt(instance_until(1e9, "8f5c-2"), second)
    assert not is_earlier_attempt("", "")


def test_missing_secret_is_named_with_its_variable() -> None:
    """The operator's mistake, in words."""
    with pytest.raises(PluginError, match="GRAMIAN_AWS_MASTER_KEY_SECRET is missing"):
        plugins.make("identity", "aws", Settings.from_env({}))


def test_absent_secret_is_said_in_words(emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong ARN, or another region."""
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreError, match="no secret nothing-there"):
        _ = AwsIdentity("nothing-there", 60).master_key
