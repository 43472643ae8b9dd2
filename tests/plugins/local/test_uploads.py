"""Uploads to this machine: tickets, and bodies that go straight to their file."""

from __future__ import annotations

import http.client
import os
import socket
import threading
import time
from pathlib import Path

import pytest
from flask import Flask

from gramian.errors import AlreadyExists, InvalidRequest
from gramian.http import errors
from gramian.testing.uploads import UploadStoreContract
from gramian_local import wsgi
from gramian_local.receiving import receiver
from gramian_local.uploads import FileUploadStore

BODY_LIMIT = 2**16


@pytest.fixture
def store(tmp_path):
    return FileUploadStore(tmp_path / "uploads", b"master key")


@pytest.fixture
def server(store):
    """The endpoint under the real WSGI server, whose own limit for bodies is 64 KiB."""
    app = Flask("test")
    app.register_blueprint(receiver(store))
    errors.register(app)
    server = wsgi.Server(app, "127.0.0.1", 0, body_limit_bytes=BODY_LIMIT, spool=store.spool)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield server
    server.stop()
    thread.join(10)


@pytest.fixture
def put(server):
    def send(ticket, data):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        try:
            connection.request("PUT", ticket.url, data, dict(ticket.headers))
            return connection.getresponse().status
        finally:
            connection.close()

    return send


class TestFileUploads(UploadStoreContract):
    """The contract, through the server."""

    @pytest.fixture
    def store(self, store):
        return store

    @pytest.fixture
    def put(self, put):
        return put


def ticket(store, size_bytes=3, name="a1"):
    return store.ticket("c0", name, size_bytes=size_bytes, expires_at=int(time.time()) + 600)


def test_second_upload_under_one_ticket_is_refused(store, put):
    """What has arrived may be under way into a project."""
    made = ticket(store)
    assert [put(made, b"abc"), put(made, b"xyz")] == [201, 409]
    with store.open("c0", "a1", store.find("c0", "a1").tag) as file:
        assert file.read() == b"abc"


def test_large_body_goes_to_its_file_without_a_copy(store, put, monkeypatch, tmp_path, eventually):
    """Not to the server's temporary files, not to memory, and beyond the limit of other bodies."""
    monkeypatch.setattr("shutil.copyfileobj", None)
    data = os.urandom(5 * 2**20)
    assert put(ticket(store, len(data)), data) == 201
    assert (tmp_path / "uploads" / "c0" / "a1").read_bytes() == data
    # The server gives its own name of the file up when it has answered.
    eventually(lambda: [path.name for path in (tmp_path / "uploads" / "c0").iterdir()] == ["a1"])


def test_large_body_without_a_ticket_is_refused_at_once(store, server, tmp_path):
    """Before it is sent: nobody fills the disk of a machine that gave no leave."""
    made = ticket(store, 10 * BODY_LIMIT)
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        head = f"PUT {made.url[:-1]}! HTTP/1.1\r\nHost: x\r\nContent-Length: {10 * BODY_LIMIT}\r\n\r\n"
        connection.sendall(head.encode())
        assert b" 413 " in connection.recv(4096).split(b"\r\n")[0]
    assert not (tmp_path / "uploads").exists()


def test_body_that_ends_early_leaves_nothing(store, server, tmp_path, eventually):
    """The client was killed."""
    made = ticket(store, 10 * BODY_LIMIT)
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        head = f"PUT {made.url} HTTP/1.1\r\nHost: x\r\nContent-Length: {10 * BODY_LIMIT}\r\n\r\n"
        connection.sendall(head.encode() + b"x" * BODY_LIMIT)
        eventually(lambda: list((tmp_path / "uploads").glob("*/*")))
    eventually(lambda: not list((tmp_path / "uploads").glob("*/*")))
    assert store.find("c0", "a1") is None


def test_ticket_of_another_home_is_refused(store, put, tmp_path):
    """Its key is another one."""
    other = FileUploadStore(tmp_path / "other", b"another master key")
    assert put(ticket(other), b"abc") == 400


@pytest.mark.parametrize(
    "query", ["", "size=3", "size=3&expires=9999999999&signature=", "size=x&expires=1&signature=é"]
)
def test_malformed_ticket_admits_nothing(store, query):
    """Whatever stands in it."""
    assert store.admits("c0", "a1", query) is None


@pytest.mark.parametrize(("space", "name"), [("..", "a1"), ("c0", "../x"), ("c0", ""), ("C0", "a1"), ("c0", "a" * 65)])
def test_name_that_leaves_the_root_is_refused(store, space, name):
    """A programming mistake, or an attack: no file is touched."""
    with pytest.raises(ValueError, match="1 to 64 of 0-9"):
        store.find(space, name)
    assert store.spool(f"/symetry/uploads/{space}/{name}", "size=3", 3) is None


def test_body_of_another_server_is_copied(store, tmp_path):
    """One that hands over a stream instead of the spooled file."""
    made = ticket(store)
    with (tmp_path / "body").open("w+b") as body:
        body.write(b"abc")
        body.seek(0)
        store.receive("c0", "a1", made.url.partition("?")[2], body, 3)
        assert store.find("c0", "a1").size_bytes == 3
        body.seek(0)
        with pytest.raises(AlreadyExists):
            store.receive("c0", "a1", made.url.partition("?")[2], body, 3)
        with pytest.raises(InvalidRequest, match="ended early"):
            store.receive("c0", "a2", ticket(store, name="a2").url.partition("?")[2], body, 3)


def test_old_uploads_expire_with_what_half_arrived(store, tmp_path, put, eventually):
    """And young ones stay."""
    for name in ("a1", "a2"):
        put(ticket(store, name=name), b"abc")
    directory = Path(tmp_path, "uploads", "c0")
    eventually(lambda: len(list(directory.iterdir())) == 2)
    (directory / ".tmp-1").write_bytes(b"x")
    for name in ("a1", ".tmp-1"):
        os.utime(directory / name, (1000, 1000))
    store.expire(2000)
    assert [path.name for path in directory.iterdir()] == ["a2"]
