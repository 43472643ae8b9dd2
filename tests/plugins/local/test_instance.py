"""Telling running processes from dead ones."""

from __future__ import annotations

import fcntl
import os
from contextlib import closing

import pytest

from gramian.testing.state import race
from gramian_local.home import open_home
from gramian_local.instance import Instance

HOLD = """
import sys
from gramian_local.home import open_home
from gramian_local.instance import Instance
instance = Instance(open_home(sys.argv[1]))
print(instance.id, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path):
    return open_home(tmp_path / "home")


def test_instance_is_alive_until_closed(home):
    """As seen by itself and by others."""
    with closing(Instance(home)) as other:
        instance = Instance(home)
        assert instance.id != other.id
        assert instance.alive(instance.id)
        assert other.alive(instance.id)
        instance.close()
        instance.close()
        assert not other.alive(instance.id)
        assert not instance.alive(instance.id)
        assert os.listdir(home.instances) == [other.id]


def test_killed_process_is_dead_at_once_and_swept_later(home, spawn):
    """SIGKILL leaves the file, not the lock; the next instance removes the file."""
    process = spawn(HOLD, home.root)
    instance_id = process.stdout.readline().strip()
    with closing(Instance(home)) as observer:
        assert observer.alive(instance_id)
        assert instance_id in os.listdir(home.instances)
        process.kill()
        process.wait()
        assert not observer.alive(instance_id)
        with closing(Instance(home)) as third:
            assert sorted(os.listdir(home.instances)) == sorted([observer.id, third.id])


def test_probe_of_another_observer_does_not_count_as_life(home):
    """Two processes may look at a dead one at the same moment."""
    dead = home.instances / ("0" * 32)
    with closing(Instance(home)) as observer:
        dead.touch()
        with dead.open() as probe:
            fcntl.flock(probe, fcntl.LOCK_SH)
            assert not observer.alive(dead.name)


def test_child_processes_do_not_keep_an_instance_alive(home, spawn):
    """The embedded nats-server may outlive us for a moment."""
    instance = Instance(home)
    spawn("import sys; sys.stdin.read()")
    os.close(instance._descriptor)
    instance._descriptor = None
    with closing(Instance(home)) as observer:
        assert not observer.alive(instance.id)


@pytest.mark.parametrize("text", ["", "..", "../master.key", "0" * 31, "0" * 32, "A" * 32, "0" * 32 + "\n"])
def test_unknown_or_malformed_id_is_dead(home, text):
    """Ids come from stored records."""
    with closing(Instance(home)) as instance:
        assert not instance.alive(text)


def test_instances_starting_together_never_take_each_other_for_dead(home):
    """The sweep of one must not remove the file of another that is just being made."""
    for _ in range(5):
        instances = race(8, lambda _: Instance(home))
        assert all(instances[0].alive(instance.id) for instance in instances)
        for instance in instances:
            instance.close()
    assert os.listdir(home.instances) == []
