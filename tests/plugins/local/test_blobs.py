"""The file blob store: the contract, and what is particular to files."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gramian.errors import BlobCorrupt, BlobMissing, StoreError
from gramian.testing.blobs import BlobStoreContract
from gramian.testing.clock import FakeClock
from gramian_local.blobs import FileBlobStore

SPACE = "00aa-11"
DIGEST = hashlib.sha256(b"data").hexdigest()


class TestFileBlobStore(BlobStoreContract):
    """The contract on files."""

    time_resolution_s = 0.02

    @pytest.fixture
    def open_again(self, tmp_path):
        return lambda: FileBlobStore(tmp_path / "blobs")

    @pytest.fixture
    def store(self, open_again):
        return open_again()


@pytest.fixture
def root(tmp_path):
    return tmp_path / "blobs"


@pytest.fixture
def store(root):
    return FileBlobStore(root)


def _files(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_put_lays_out_private_files(store, root):
    """`<space>/<2 hex>/<sha256>`, readable by the owner only whatever the umask."""
    before = os.umask(0)
    try:
        store.put(SPACE, b"data")
    finally:
        os.umask(before)
    assert _files(root) == [f"{SPACE}/{DIGEST[:2]}/{DIGEST}"]
    assert stat.S_IMODE((root / SPACE / DIGEST[:2] / DIGEST).stat().st_mode) == 0o600
    for directory in (root, root / SPACE, root / SPACE / DIGEST[:2]):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to tell which file was synced")
def test_put_syncs_file_before_and_directory_after_its_name_appears(store, root, monkeypatch):
    """The order that survives a power cut; new directories are made durable in their parents first."""
    events = []
    sync, replace = os.fsync, Path.replace

    def record_sync(descriptor):
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        sync(descriptor)

    def record_replace(path, target):
        events.append("named")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(Path, "replace", record_replace)
    store.put(SPACE, b"data")
    shard = root / SPACE / DIGEST[:2]
    temporary = events.pop(3)
    assert temporary.parent == shard
    assert events == [root.parent, root, root / SPACE, "named", shard]


@pytest.mark.parametrize("damage", [b"dat", b"", b"dateline", b"Data"])
def test_get_damaged_file_is_blob_corrupt(store, root, damage):
    """Cut, emptied or altered: the text names the digest and the remedy; storing again repairs it."""
    store.put(SPACE, b"data")
    (root / SPACE / DIGEST[:2] / DIGEST).write_bytes(damage)
    with pytest.raises(BlobCorrupt, match=rf"{DIGEST}.*restore"):
        store.get(SPACE, DIGEST)
    store.put(SPACE, b"data")
    assert store.get(SPACE, DIGEST) == b"data"


@pytest.mark.parametrize("space", ["", ".", "..", "../a", "a/b", "A", "g", "a" * 65, "a\n", "a\0", "a.b", "\u0663"])
def test_space_outside_alphabet_is_value_error(store, root, space):
    """Nothing leaves the root, in any call."""
    calls = [
        lambda: store.put(space, b"data"),
        lambda: store.get(space, DIGEST),
        lambda: store.delete(space, DIGEST),
        lambda: store.list(space),
        lambda: store.clear(space),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="a space is"):
            call()
    assert not root.exists()


@pytest.mark.parametrize("digest", ["", "..", "../" * 20 + "abcd", DIGEST.upper(), DIGEST[:-1], DIGEST + "\n"])
def test_digest_outside_alphabet_is_value_error(store, digest):
    """Digests come from other nodes too."""
    for call in (store.get, store.delete):
        with pytest.raises(ValueError, match="a digest is"):
            call(SPACE, digest)


def test_full_disk_is_store_error_and_leaves_nothing(store, root, file_size_limit):
    """The write fails half way; earlier blobs stay."""
    kept = store.put(SPACE, b"kept")
    file_size_limit(100_000)
    with pytest.raises(StoreError, match="size limit"):
        store.put(SPACE, bytes(1_000_000))
    file_size_limit()
    assert [Path(name).name for name in _files(root)] == [kept]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "check it"),
        (errno.EBUSY, "the system says"),
    ],
)
def test_disk_error_is_store_error_and_leaves_nothing(store, root, monkeypatch, code, text):
    """Each with a text that says what to do, chained to the cause."""

    def fail(descriptor):
        raise OSError(code, os.strerror(code))

    store.put(SPACE, b"kept")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match=text) as caught:
        store.put(SPACE, b"data")
    assert isinstance(caught.value.__cause__, OSError)
    assert len(_files(root)) == 1


def test_read_only_root_is_store_error(unprivileged_path):
    """Reading still works."""
    store = FileBlobStore(unprivileged_path)
    digest = store.put(SPACE, b"data")
    shard = unprivileged_path / SPACE / digest[:2]
    shard.chmod(0o500)
    try:
        with pytest.raises(StoreError, match="cannot be written"):
            store.put(SPACE, b"data")
        with pytest.raises(StoreError, match="cannot be written"):
            store.delete(SPACE, digest)
        assert store.get(SPACE, digest) == b"data"
    finally:
        shard.chmod(0o700)


def test_list_removes_stale_temporaries_only(store, root):
    """A put of the last hour may still be at work."""
    clock = FakeClock(time.time())
    store = FileBlobStore(root, clock=clock)
    digest = store.put(SPACE, b"data")
    temporary = root / SPACE / digest[:2] / ".tmp-0123"
    temporary.write_bytes(b"da")
    clock.advance(3500)
    assert [info.digest for info in store.list(SPACE)] == [digest]
    assert temporary.exists()
    clock.advance(200)
    assert [info.digest for info in store.list(SPACE)] == [digest]
    assert not temporary.exists()


def test_list_ignores_strangers(store, root):
    """Files that users or backup tools leave behind are neither listed nor removed."""
    store.put(SPACE, b"data")
    (root / SPACE / "notes.txt").write_text("x")
    (root / SPACE / DIGEST[:2] / "copy.bak").write_text("x")
    assert [info.digest for info in store.list(SPACE)] == [DIGEST]
    assert len(_files(root)) == 3


def test_clear_removes_what_a_killed_clear_left(store, root):
    """Nothing private stays on disk for good."""
    leftover = root / ".cleared-0123" / "00"
    leftover.mkdir(parents=True)
    (leftover / DIGEST).write_bytes(b"data")
    store.clear(SPACE)
    assert list(root.iterdir()) == []


def test_clear_repeats_when_a_put_slips_in(store, root, monkeypatch):
    """A put that had just found its directory may add a file to what is being removed."""
    store.put(SPACE, b"data")
    rmdir = Path.rmdir

    def slip_in(path):
        monkeypatch.setattr(Path, "rmdir", rmdir)
        (path / ".tmp-0123").write_bytes(b"da")
        rmdir(path)

    monkeypatch.setattr(Path, "rmdir", slip_in)
    store.clear(SPACE)
    assert list(root.iterdir()) == []


def test_put_that_never_finds_its_directory_gives_up(store, root, monkeypatch):
    """With a clean error, not an endless loop."""
    sync = os.fsync

    def clear_meanwhile(descriptor):
        sync(descriptor)
        FileBlobStore(root).clear(SPACE)

    (root / SPACE / DIGEST[:2]).mkdir(parents=True)
    monkeypatch.setattr(os, "fsync", clear_meanwhile)
    monkeypatch.setattr("gramian_local.blobs.sync_directory", lambda path: None)
    with pytest.raises(StoreError, match="cleared again and again"):
        store.put(SPACE, b"data")


def test_puts_racing_with_clears_are_whole_or_gone(store, root):
    """No blob is damaged, nothing half written stays; a put may give up, but with the one clean error."""
    end = time.monotonic() + 0.7

    def put_and_look():
        while time.monotonic() < end:
            try:
                digest = store.put(SPACE, b"data" * 1000)
                assert store.get(SPACE, digest) == b"data" * 1000
            except BlobMissing:
                pass  # a clear came after the put
            except StoreError as error:
                if "cleared again and again" not in str(error):
                    raise

    def clear():
        while time.monotonic() < end:
            store.clear(SPACE)
            time.sleep(0.005)

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(work) for work in (put_and_look, put_and_look, clear, clear)]:
            future.result()
    store.clear(SPACE)
    assert list(root.iterdir()) == []
