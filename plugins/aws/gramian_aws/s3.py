"""Blob store on S3: objects named `<prefix><space>/<sha256>`.

A blob is stored under the condition that it is not there yet, with its SHA-256 for S3 to check what arrives. One that
is there already is copied onto itself, which gives it a new time without another upload, unless its checksum shows
that it is damaged. Large blobs go in parts.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Iterator
from typing import Any, Final

from gramian.errors import BlobCorrupt, BlobMissing
from gramian.ports import BlobInfo, BlobStore, Data
from gramian_aws.errors import CONDITION_FAILED
from gramian_aws.s3_bucket import MISSING, PAST_END, Bucket

PART_BYTES: Final = 16 * 1024 * 1024
"""Size of the parts of what is larger than one; also the size from which an upload is worth a question first."""
_SPACE: Final = re.compile(r"[0-9a-f-]{1,64}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_ATTEMPTS: Final = 4
_UPLOADS_AT_ONCE: Final = 4


class S3BlobStore(BlobStore):
    """`gramian.ports.BlobStore` in a bucket.

    Spaces are 1 to 64 of `0-9 a-f -`, digests 64 of `0-9 a-f` (else ValueError), so no name leaves its prefix.
    """

    def __init__(self, bucket: Bucket, *, prefix: str = "") -> None:
        """`prefix` is put before every key as it is."""
        self._bucket = bucket
        self._prefix = prefix

    def put(self, space: str, data: Data) -> str:
        digest = hashlib.sha256(data).hexdigest()
        key = self._key(space, digest)
        small = len(data) <= PART_BYTES
        if small and self._create(key, data):
            return digest
        # Another upload, over what is there, is always right; it is only slower.
        if not (self._checksum(key) in _checksums(data) and self._refresh(key)):
            self._upload(key, data)
        return digest

    def get(self, space: str, digest: str) -> bytes:
        key = self._key(space, digest)
        data = self._fetch(key)
        if data is None:
            raise _missing(space, digest)
        if hashlib.sha256(data).hexdigest() != digest:
            raise BlobCorrupt(
                f"Blob {digest} in space {space} is damaged, its bytes no longer match their digest: restore an older "
                f"version of {key} in bucket {self._bucket.name}, or learn the project's data again."
            )
        return data

    def read(self, space: str, digest: str, start: int, size: int) -> bytes:
        key = self._key(space, digest)
        data = self._fetch(key, Range=f"bytes={start}-{start + size - 1}") if size else None
        if data is None and self._bucket.head(key) is None:
            raise _missing(space, digest)
        return data or b""

    def delete(self, space: str, digest: str) -> None:
        self._bucket.call("delete_object", Key=self._key(space, digest))

    def list(self, space: str) -> Iterator[BlobInfo]:
        """All blobs by digest, a thousand for each call of S3."""
        start = self._start(space)
        for page in self._bucket.pages(start):
            for found in page:
                digest = found["Key"].removeprefix(start)
                if _DIGEST.fullmatch(digest):
                    yield BlobInfo(digest, found["Size"], found["LastModified"].timestamp())

    def clear(self, space: str) -> None:
        for page in self._bucket.pages(self._start(space)):
            self._bucket.remove([found["Key"] for found in page])

    def close(self) -> None:
        """Nothing is held open: clients belong to the process."""

    def _start(self, space: str) -> str:
        if not _SPACE.fullmatch(space):
            raise ValueError("a space is 1 to 64 of 0-9, a-f and -")
        return f"{self._prefix}{space}/"

    def _key(self, space: str, digest: str) -> str:
        if not _DIGEST.fullmatch(digest):
            raise ValueError("a digest is 64 of 0-9 and a-f")
        return self._start(space) + digest

    def _create(self, key: str, data: Data) -> bool:
        """Store what is not there; False if it is, or is being stored."""
        stored = self._bucket.call(
            "put_object",
            Key=key,
            Body=data,
            IfNoneMatch="*",
            ChecksumSHA256=_encoded(hashlib.sha256(data)),
            unless=CONDITION_FAILED | {"ConditionalRequestConflict"},
            **self._bucket.encryption,
        )
        return stored is not None

    def _checksum(self, key: str) -> str | None:
        """The SHA-256 that S3 computed when it was stored, if it is there and has one."""
        found = self._bucket.head(key)
        return None if found is None else found.get("ChecksumSHA256")

    def _refresh(self, key: str) -> bool:
        """Give it a new time; False if it is gone. S3 copies onto the same key only when something is replaced."""
        copied = self._bucket.call(
            "copy_object",
            Key=key,
            CopySource={"Bucket": self._bucket.name, "Key": key},
            MetadataDirective="REPLACE",
            ChecksumAlgorithm="SHA256",
            unless=MISSING,
            **self._bucket.encryption,
        )
        return copied is not None

    def _upload(self, key: str, data: Data) -> None:
        from s3transfer.manager import TransferConfig, TransferManager

        config = TransferConfig(
            multipart_threshold=PART_BYTES + 1,
            multipart_chunksize=PART_BYTES,
            max_request_concurrency=_UPLOADS_AT_ONCE,
        )
        arguments = {"ChecksumAlgorithm": "SHA256", **self._bucket.encryption}
        with self._bucket.calling("put_object"), TransferManager(self._bucket.client, config) as manager:
            manager.upload(io.BytesIO(data), self._bucket.name, key, extra_args=arguments).result()

    def _fetch(self, key: str, **span: str) -> bytes | None:
        """Its bytes, None if there are none; what breaks off is read again, which botocore leaves to its callers."""
        from botocore.exceptions import HTTPClientError, IncompleteReadError

        for attempt in range(_ATTEMPTS):
            answer = self._bucket.call("get_object", Key=key, **span, unless=MISSING | PAST_END)
            if answer is None:
                return None
            with self._bucket.calling("get_object"):
                try:
                    data: bytes = answer["Body"].read()
                except (HTTPClientError, IncompleteReadError):
                    if attempt == _ATTEMPTS - 1:
                        raise
                else:
                    return data
        raise AssertionError


def _encoded(digest: Any) -> str:
    return base64.b64encode(digest.digest()).decode()


def _checksums(data: Data) -> set[str]:
    """What S3 says of these bytes: their SHA-256, or that of their parts' if they came in parts."""
    view = memoryview(data)
    parts = [hashlib.sha256(view[start : start + PART_BYTES]) for start in range(0, len(data), PART_BYTES)]
    whole = hashlib.sha256(b"".join(part.digest() for part in parts))
    return {_encoded(hashlib.sha256(data)), f"{_encoded(whole)}-{len(parts)}"}


def _missing(space: str, digest: str) -> BlobMissing:
    return BlobMissing(f"There is no blob {digest} in space {space}.")
