"""`python -m benchmarks.constant`: the local server's WSGI server with an application that always says the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gramian_local import wsgi

BODY = b'{"statusCode":"OK","statusString":"OK","values":{}}'
HEADERS = [("Content-Type", "application/json"), ("Content-Length", str(len(BODY)))]


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    environ["wsgi.input"].read()
    start_response("200 OK", HEADERS)
    return [BODY]


def main() -> None:
    server = wsgi.Server(application, "127.0.0.1", 0, body_limit_bytes=2**20)  # type: ignore[arg-type]
    print(server.port, flush=True)
    server.run()


if __name__ == "__main__":
    main()
