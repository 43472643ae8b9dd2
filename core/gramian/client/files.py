"""Sending a file to the address that a server has given for it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

from gramian.client.errors import BadReply, Unreachable, refusal

MAX_REPLY_BYTES = 64 * 1024
BLOCK_BYTES = 2**20


def send(path: Path, url: str, headers: Mapping[str, str], timeout_s: float) -> None:
    """PUT the file's bytes, without holding them in memory. Raises ClientError."""
    parts = urlsplit(url)
    kinds = {"http": HTTPConnection, "https": HTTPSConnection}
    if parts.scheme not in kinds or not parts.hostname:
        raise BadReply("the server gave no address for the file")
    connection = kinds[parts.scheme](parts.hostname, parts.port, timeout=timeout_s, blocksize=BLOCK_BYTES)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    try:
        with path.open("rb") as file:
            length = str(os.fstat(file.fileno()).st_size)
            connection.request("PUT", target, file, {**headers, "Content-Length": length})
        with connection.getresponse() as response:
            text = response.read(MAX_REPLY_BYTES).decode(errors="replace")
    except (OSError, HTTPException) as error:
        raise Unreachable(f"the file was not taken by {parts.hostname}: {error or type(error).__name__}") from error
    finally:
        connection.close()
    if response.status >= 300:
        raise refusal(response.status, str(response.status), f"the file was not taken: {text[:500]}")
