"""The home directory and its master key."""

from __future__ import annotations

import os
import stat

import pytest

from gramian.errors import StoreError
from gramian.testing.state import race
from gramian_local.home import KEY_BYTES, default_home, open_home


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "home"


def _mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_open_home_creates_private_home(path):
    """Directories 0700 and a key of 32 bytes, 0600, whatever the umask; nothing else is left behind."""
    before = os.umask(0)
    try:
        home = open_home(path)
    finally:
        os.umask(before)
    assert len(home.master_key) == KEY_BYTES
    assert (path / "master.key").read_bytes() == home.master_key
    assert _mode(path / "master.key") == 0o600
    for directory in (path, home.blobs, home.nats, home.logs, home.instances):
        assert _mode(directory) == 0o700
    assert sorted(os.listdir(path)) == ["blobs", "instances", "logs", "master.key", "nats"]
    assert home.database.parent == path


def test_open_home_again_keeps_key(path):
    """The key is made once; another home has another."""
    home = open_home(path)
    assert open_home(path) == home
    assert open_home(path.parent / "other").master_key != home.master_key


def test_open_home_from_many_threads_agrees_on_key(path):
    """Everybody gets the key that stands in the file."""
    keys = {home.master_key for home in race(12, lambda _: open_home(path))}
    assert keys == {(path / "master.key").read_bytes()}


def test_open_home_without_path_uses_platform_default(tmp_path, monkeypatch):
    """The user's data directory of the operating system."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    home = open_home()
    assert home.root == default_home()
    assert home.root.is_relative_to(tmp_path)
    assert home.root.name == "gramian"


def test_home_repr_hides_key(path):
    """Reprs end in logs."""
    home = open_home(path)
    assert "master_key" not in repr(home)


@pytest.mark.parametrize("key", [b"", b"short", b"x" * 33])
def test_key_of_wrong_length_is_refused(path, key):
    """A cut file must not pass for a key, nor be replaced: a backup may have the right one."""
    open_home(path)
    (path / "master.key").write_bytes(key)
    with pytest.raises(StoreError, match=f"has {len(key)} bytes instead of 32: restore"):
        open_home(path)
    assert (path / "master.key").read_bytes() == key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_key_open_to_others_is_refused(path, mode):
    """Not fixed silently: it may have been read."""
    open_home(path)
    (path / "master.key").chmod(mode)
    with pytest.raises(StoreError, match="chmod 600"):
        open_home(path)
    (path / "master.key").chmod(0o400)
    open_home(path)


def test_lost_key_of_used_home_is_refused(path):
    """A fresh key would turn every sealed secret into garbage without a word."""
    home = open_home(path)
    home.database.touch()
    (path / "master.key").unlink()
    with pytest.raises(StoreError, match=r"master\.key is missing"):
        open_home(path)
    assert not (path / "master.key").exists()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_directory_that_others_write_is_refused(path, mode):
    """They could put a key of their own in place."""
    path.mkdir(parents=True)
    path.chmod(mode)
    with pytest.raises(StoreError, match="chmod go-w"):
        open_home(path)


def test_existing_directory_keeps_its_mode(path):
    """Mounted volumes are often 0755; what lies inside is private all the same."""
    path.mkdir(parents=True)
    path.chmod(0o755)
    open_home(path)
    assert _mode(path) == 0o755


def test_home_in_read_only_place_is_store_error(unprivileged_path):
    """The text says what to check."""
    unprivileged_path.chmod(0o500)
    with pytest.raises(StoreError, match="cannot be written"):
        open_home(unprivileged_path / "home")


def test_home_that_is_a_file_is_store_error(tmp_path):
    """A path that cannot become a directory."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="Cannot use"):
        open_home(tmp_path / "file")
