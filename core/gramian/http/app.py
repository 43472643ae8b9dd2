"""The Flask application: blueprints over one node. The local server mounts all of them, a function one."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Blueprint, Flask

from gramian.http import errors
from gramian.http.auth import authenticator
from gramian.node import Node
from gramian.usecases import users

NODE = "GRAMIAN_NODE"


def create_app(node: Node, blueprints: Sequence[Blueprint]) -> Flask:
    """An application whose every signed endpoint speaks for the user that signed."""
    app = Flask("gramian", static_folder=None)
    app.config[NODE] = node
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.before_request(authenticator(lambda cid: users.secret(node, cid), node.tokens, node.clock, node.settings))
    for blueprint in blueprints:
        app.register_blueprint(blueprint)
    errors.register(app)
    return app


def all_blueprints() -> list[Blueprint]:
    """Every endpoint family, and their description."""
    from gramian.http import federation, jobs, models, openapi, projects

    return [each.blueprint for each in (federation, projects, models, jobs, openapi)]


def full_app(node: Node) -> Flask:
    """All endpoints."""
    return create_app(node, all_blueprints())
