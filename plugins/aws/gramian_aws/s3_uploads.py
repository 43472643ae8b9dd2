"""Uploads on S3: users PUT to a presigned address, objects named `<prefix>uploads/<space>/<name>`.

The address is good for one name, one size and one time, and for one upload: what has arrived is never overwritten.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from typing import Any, BinaryIO, Final, cast

from gramian.errors import BlobMissing, StoreError
from gramian.ports import Arrived, Ticket, UploadStore
from gramian_aws.errors import CONDITION_FAILED
from gramian_aws.s3_bucket import MISSING, Bucket

_HEX: Final = re.compile(r"[0-9a-f]{1,64}")
_TYPE: Final = "application/octet-stream"
_BUFFER_BYTES: Final = 1024 * 1024
_ATTEMPTS: Final = 4


class S3UploadStore(UploadStore):
    """`gramian.ports.UploadStore` in a bucket; spaces and names are 1 to 64 hex digits (else ValueError)."""

    def __init__(self, bucket: Bucket, *, prefix: str = "", clock: Callable[[], float] = time.time) -> None:
        """`prefix` is put before every key as it is. `clock` gives unix seconds."""
        self._bucket = bucket
        self._prefix = f"{prefix}uploads/"
        self._clock = clock

    def ticket(self, space: str, name: str, *, size_bytes: int, expires_at: int) -> Ticket:
        signed = {"ContentLength": size_bytes, "ContentType": _TYPE, "IfNoneMatch": "*", **self._bucket.encryption}
        with self._bucket.calling("put_object"):
            url = self._bucket.client.generate_presigned_url(
                "put_object",
                Params={"Bucket": self._bucket.name, "Key": self._key(space, name), **signed},
                ExpiresIn=max(1, expires_at - int(self._clock())),
            )
        return Ticket(url, {"Content-Type": _TYPE, "If-None-Match": "*", **self._encryption_headers()})

    def find(self, space: str, name: str) -> Arrived | None:
        found = self._bucket.head(self._key(space, name))
        return None if found is None else Arrived(found["ContentLength"], found["ETag"])

    def open(self, space: str, name: str, tag: str) -> BinaryIO:
        arrived = self.find(space, name)
        if arrived is None:
            raise BlobMissing(f"There is no upload {name} in space {space}.")
        if arrived.tag != tag:
            raise BlobMissing(f"The upload {name} in space {space} is another file now.")
        reader = _Reader(self._bucket, self._key(space, name), arrived)
        return cast(BinaryIO, io.BufferedReader(reader, _BUFFER_BYTES))

    def delete(self, space: str, name: str) -> None:
        self._bucket.call("delete_object", Key=self._key(space, name))

    def clear(self, space: str) -> None:
        for page in self._bucket.pages(self._start(space)):
            self._bucket.remove([found["Key"] for found in page])

    def expire(self, before: float) -> None:
        """Also where the bucket's lifecycle does so: nobody's rows are to stay because a rule is missing."""
        for page in self._bucket.pages(self._prefix):
            self._bucket.remove([found["Key"] for found in page if found["LastModified"].timestamp() < before])

    def close(self) -> None:
        """Nothing is held open: clients belong to the process."""

    def _start(self, space: str) -> str:
        if not _HEX.fullmatch(space):
            raise ValueError("a space of uploads is 1 to 64 of 0-9 and a-f")
        return f"{self._prefix}{space}/"

    def _key(self, space: str, name: str) -> str:
        if not _HEX.fullmatch(name):
            raise ValueError("the name of an upload is 1 to 64 of 0-9 and a-f")
        return self._start(space) + name

    def _encryption_headers(self) -> dict[str, str]:
        """Signed too, so the sender has to send them."""
        names = {
            "ServerSideEncryption": "x-amz-server-side-encryption",
            "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
        }
        return {names[name]: value for name, value in self._bucket.encryption.items()}


class _Reader(io.RawIOBase):
    """An object as a file: one GET for as long as it is read on, another after a seek or a broken connection."""

    def __init__(self, bucket: Bucket, key: str, arrived: Arrived) -> None:
        self._bucket = bucket
        self._key = key
        self._arrived = arrived
        self._position = 0
        self._body: Any = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._arrived.size_bytes}
        position = max(0, starts[whence] + offset)
        if position != self._position:
            self._drop()
            self._position = position
        return position

    def readinto(self, buffer: Any) -> int:
        """Raises StoreError, also if the object has changed."""
        from botocore.exceptions import HTTPClientError, IncompleteReadError

        size = min(len(buffer), self._arrived.size_bytes - self._position)
        if size <= 0:
            return 0
        for attempt in range(_ATTEMPTS):
            with self._bucket.calling("get_object"):
                try:
                    data = self._opened().read(size)
                except (HTTPClientError, IncompleteReadError):
                    self._drop()
                    if attempt == _ATTEMPTS - 1:
                        raise
                    continue
            buffer[: len(data)] = data
            self._position += len(data)
            return len(data)
        raise AssertionError

    def close(self) -> None:
        self._drop()
        super().close()

    def _opened(self) -> Any:
        if self._body is None:
            answer = self._bucket.call(
                "get_object",
                Key=self._key,
                Range=f"bytes={self._position}-",
                IfMatch=self._arrived.tag,
                unless=MISSING | CONDITION_FAILED,
            )
            if answer is None:
                raise StoreError("The upload was removed or sent anew while it was being read.")
            self._body = answer["Body"]
        return self._body

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None
