"""The endpoint of this server that uploads are sent to: the address on a ticket, which is its own permission."""

from __future__ import annotations

from flask import Blueprint, Response, request

from gramian.errors import InvalidRequest
from gramian.http.app import full_app
from gramian.http.auth import unsigned
from gramian.http.envelope import respond
from gramian.node import Node
from gramian_local import wsgi
from gramian_local.uploads import PATH, FileUploadStore


def server_of(node: Node, host: str, port: int) -> wsgi.Server:
    """A server of all endpoints of a node; also of that for uploads, if they come to this machine. Raises OSError."""
    app, store, limit = full_app(node), node.uploads, node.settings.body_limit_bytes
    if not isinstance(store, FileUploadStore):
        return wsgi.Server(app, host, port, body_limit_bytes=limit)
    app.register_blueprint(receiver(store))
    return wsgi.Server(app, host, port, body_limit_bytes=limit, spool=store.spool)


def receiver(store: FileUploadStore) -> Blueprint:
    """The endpoint over one store."""
    blueprint = Blueprint("receiver", __name__, url_prefix=PATH)

    @blueprint.put("/<space>/<name>")
    @unsigned
    def put(space: str, name: str) -> Response:
        """Take in the bytes of an upload, once."""
        query = request.query_string.decode("latin-1")
        if request.content_length is None:
            raise InvalidRequest("the length of an upload must be announced (Content-Length)")
        # Not Flask's stream: a body that the server has put into the store's own file is taken over, not copied.
        store.receive(space, name, query, request.environ["wsgi.input"], request.content_length)
        return respond("CREATED", "Uploaded")

    return blueprint
