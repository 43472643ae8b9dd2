"""`python -m benchmarks.minimal KEY FILE`: the least that a durable, signed write takes on the local WSGI server.

No framework and no statistics: the signature is verified with the user's KEY (base64), the body is put into a SQLite
FILE by commits that waiting requests share, as the stores do it, and the answer is a constant.
"""

from __future__ import annotations

import itertools
import sqlite3
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.constant import BODY, HEADERS
from gramian.domain.signing import Signable, Target, verify
from gramian_local import wsgi
from gramian_local.database import Database

INSERT = "INSERT INTO items (partition, key, value, version) VALUES (x'00', ?, ?, '')"


def application(
    key: str, database: Database, numbers: itertools.count[int], environ: dict[str, Any], start: Callable[..., Any]
) -> Iterable[bytes]:
    body, path = environ["wsgi.input"].read(), environ["PATH_INFO"]
    request = Signable.of(environ["REQUEST_METHOD"], environ["HTTP_SYM_DATE"], environ["HTTP_CUSTOMER_ID"], body)
    if verify(key, request, [Target(path, environ["QUERY_STRING"])], environ["HTTP_AUTHORIZATION"]) is None:
        start("401 Unauthorized", HEADERS)
        return [BODY]

    def write(connection: sqlite3.Connection) -> None:
        connection.execute(INSERT, (str(next(numbers)).encode(), body))

    database.write(write)
    start("200 OK", HEADERS)
    return [BODY]


def main(key: str, file: str) -> None:
    app = partial(application, key, Database(Path(file)), itertools.count())
    server = wsgi.Server(app, "127.0.0.1", 0, body_limit_bytes=2**20)  # type: ignore[arg-type]
    print(server.port, flush=True)
    server.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
