"""The Flask application: blueprints over one node. The local server mounts all of them, a function one endpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flask import Blueprint, Flask, request
from werkzeug.exceptions import NotFound

from gramian.http import errors
from gramian.http.auth import authenticator
from gramian.node import Node
from gramian.usecases import users

NODE = "GRAMIAN_NODE"


def create_app(node: Node, blueprints: Sequence[Blueprint], *, only: str | None = None) -> Flask:
    """An application whose every signed endpoint speaks for the user that signed; `only` as in `bare_app`."""
    app = bare_app(blueprints, only=only)
    app.config[NODE] = node
    app.before_request(authenticator(lambda cid: users.secret(node, cid), node.tokens, node.clock, node.settings))
    return app


def bare_app(blueprints: Sequence[Blueprint], *, only: str | None = None) -> Flask:
    """An application without a node, for descriptions and endpoints that need none.

    With `only` it serves the endpoint `<blueprint>.<view>`, and answers others as if they did not exist.
    """
    app = Flask("gramian", static_folder=None)
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    if only is not None:
        app.before_request(_refusing_others(only))
    for blueprint in blueprints:
        app.register_blueprint(blueprint)
    errors.register(app)
    return app


def all_blueprints() -> list[Blueprint]:
    """Every endpoint family, and their description."""
    from gramian.http import federation, jobs, models, openapi, projects, uploads

    return [each.blueprint for each in (federation, projects, uploads, models, jobs, openapi)]


def full_app(node: Node) -> Flask:
    """All endpoints."""
    return create_app(node, all_blueprints())


def _refusing_others(endpoint: str) -> Callable[[], None]:
    def refuse_others() -> None:
        # None: routing has failed, and Flask says so next.
        if request.endpoint not in (None, endpoint):
            raise NotFound

    return refuse_others
