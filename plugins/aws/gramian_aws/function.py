"""What every function's handler is made of: one endpoint of a blueprint, or one task in the background.

A process of Lambda serves one event after the other. The node is put together at the first one and kept; each event
gets a life of its own, that ends with its time limit.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any, Final, TypeAlias

import serverless_wsgi
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.metrics import MetricUnit
from flask import Flask

from gramian import node as nodes
from gramian import plugins
from gramian.errors import GramianError
from gramian.http.app import NODE, all_blueprints, bare_app, create_app
from gramian.http.auth import ROOT
from gramian.node import Node
from gramian.settings import Settings
from gramian_aws.identity import instance_until, is_earlier_attempt

Event: TypeAlias = dict[str, Any]
Handler: TypeAlias = Callable[[Event, Any], Any]
MAX_ANSWER_BYTES: Final = 6 * 2**20 - 16 * 1024
"""Of the 6 MiB that Lambda passes on; the rest is for headers."""
ROOTS: Final = (ROOT, "/openapi.json")

log = logging.getLogger(__name__)
logger = Logger(serialize_stacktrace=False)
metrics = Metrics()


def endpoint(name: str) -> Handler:
    """Serve the endpoint `<blueprint>.<view>` and no other."""
    blueprint = import_module(f"gramian.http.{name.partition('.')[0]}").blueprint

    @cache
    def app() -> Flask:
        return create_app(node(), [blueprint], only=name)

    return _web(app)


def public_endpoint(name: str) -> Handler:
    """As `endpoint`, for one that needs no node."""
    return _web(cache(lambda: bare_app(all_blueprints(), only=name)))


def no_endpoint() -> Handler:
    """Refuse everything, in the words of the contract."""
    return public_endpoint("")


def background(task: Callable[[Node, Event], None]) -> Handler:
    """Do `task` for each event. An error ends the run as failed, so that it counts, is repeated, and is kept in the
    end where failures are."""
    set_up_logging()

    @logger.inject_lambda_context
    def handler(event: Event, context: Any) -> None:
        task(_living_until(node(), context), event)

    return handler


def tell(metric: str, value: float) -> None:
    """Give a metric a value now."""
    metrics.add_metric(name=metric, unit=MetricUnit.Count, value=value)
    metrics.flush_metrics()


def _words(status: int, name: str, text: str) -> dict[str, Any]:
    """The contract's envelope, for what the application itself cannot say."""
    return {
        "statusCode": status,
        "headers": {"content-type": "application/json", "cache-control": "no-store"},
        "body": json.dumps({"statusCode": name, "statusString": text, "values": {}}),
    }


_OUT_OF_ORDER: Final = _words(
    503, "SERVICE_UNAVAILABLE", "this node is not set up as it must be; its log says what to do"
)
_TOO_LARGE: Final = _words(
    413,
    "REQUEST_ENTITY_TOO_LARGE",
    "the answer is larger than the 6 MiB that Lambda passes on: ask for less at a time",
)


@cache
def set_up_logging() -> None:
    """All of Gramian logs by the standard library: have it in the structured form, with the request's id."""
    logging.getLogger().handlers[:] = [logger.registered_handler]
    logging.getLogger().setLevel(logging.INFO)
    logging.getLogger("botocore").setLevel(logging.WARNING)


@cache
def node() -> Node:
    """This process's node. Raises PluginError for settings that cannot be meant, StoreError."""
    settings = Settings.from_env(os.environ)
    return nodes.compose(settings, plugins.make("identity", settings.identity, settings))


def _web(app: Callable[[], Flask]) -> Handler:
    set_up_logging()

    @logger.inject_lambda_context(correlation_id_path=correlation_paths.API_GATEWAY_HTTP)
    def handler(event: Event, context: Any) -> Any:
        try:
            served = app()
        except GramianError:
            log.exception("the node of this function cannot be put together")
            return _OUT_OF_ORDER
        if NODE in served.config:
            served.config[NODE] = _living_until(node(), context)
        answer = serverless_wsgi.handle_request(_Mounted(served, event), event, context)
        if answer["statusCode"] >= 500:
            tell("ServerErrors", 1)
        return _TOO_LARGE if _is_too_large(answer["body"]) else answer

    return handler


def _is_too_large(body: str) -> bool:
    """As Lambda counts: as JSON within JSON."""
    return len(body) > MAX_ANSWER_BYTES // 6 and len(json.dumps(body)) > MAX_ANSWER_BYTES


def _living_until(made: Node, context: Any) -> Node:
    """The node with the life of this run. Lambda repeats a failed event under its old id: what the attempt that failed
    had taken up is free at once, not only when its time limit would have come."""
    mine = instance_until(time.time() + context.get_remaining_time_in_millis() / 1000, context.aws_request_id)

    def alive(instance: str) -> bool:
        return made.instance_alive(instance) and not is_earlier_attempt(instance, mine)

    return dataclasses.replace(made, instance=mine, instance_alive=alive)


class _Mounted:
    """The application below whatever prefix a stage or a domain adds to paths; WSGI calls that SCRIPT_NAME."""

    def __init__(self, app: Flask, event: Mapping[str, Any]) -> None:
        self._app = app
        self._raw_path = event["rawPath"]

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        start = next((path.find(root) for root in ROOTS if root in path), -1)
        if start > 0:
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = path[:start], path[start:]
        if "%" in self._raw_path:
            # Still as it was sent, which is what signatures cover.
            environ["REQUEST_URI"] = self._raw_path
        return self._app(environ, start_response)
