"""Single requests to the bucket: each translates its errors, counts its bytes and bounds what it reads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from botocore.exceptions import ClientError

from gramian.errors import ContentMissing, Refused, RevisionConflict, TransportRefused
from gramian.ports import Entry
from gramian_s3.calls import Pace, Upload
from gramian_s3.errors import code_of, status_of, translating, was_repeated
from gramian_s3.options import S3Options

T = TypeVar("T")

PIECE_BYTES = 64 * 2**10
MAX_DELETES = 1_000
"""Most objects that S3 removes in one request."""


@dataclass(slots=True)
class Meter:
    """Payload bytes counted on behalf of one link."""

    sent_bytes: int = 0
    received_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def sent(self, count: int) -> None:
        with self._lock:
            self.sent_bytes += count

    def received(self, count: int) -> None:
        with self._lock:
            self.received_bytes += count


class Budget:
    """How many bytes a call may still read. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = self._left_bytes = max_bytes
        self._lock = threading.Lock()

    def take(self, count: int) -> None:
        """Raises Refused beyond the budget."""
        with self._lock:
            self._left_bytes -= count
            if self._left_bytes < 0:
                raise Refused(f"a blob is larger than the {self._max_bytes} bytes allowed")


class Bucket:
    """Objects of one bucket. Thread-safe."""

    def __init__(self, client: Any, options: S3Options, meter: Meter) -> None:
        self._client = client
        self._options = options
        self._meter = meter
        self._place: dict[str, str] = {"Bucket": options.bucket}
        if options.account:
            self._place["ExpectedBucketOwner"] = options.account

    def check(self) -> None:
        """Raises TransportError unless there is such a bucket and these credentials are good for anything at all: what
        they may do is decided per federation."""
        with translating(self._name, self._options):
            try:
                # Not HEAD: its answers have no body to say what is wrong.
                self._client.get_object(Key="grm/-", **self._place)["Body"].close()
            except ClientError as error:
                if code_of(error) not in ("AccessDenied", "NoSuchKey"):
                    raise

    def read(self, key: str, pace: Pace, max_bytes: int) -> Entry | None:
        """The object with its ETag, None if it is absent. One that is longer is cut off at `max_bytes`."""
        return self._look(key, lambda: self._read(key, pace, max_bytes))

    def fetch(self, key: str, pace: Pace, budget: Budget) -> bytes:
        """The whole object. Raises ContentMissing, and Refused if it is longer than the budget still allows."""

        def get() -> bytes:
            answer = self._client.get_object(Key=key, **self._place)
            with closing(answer["Body"]) as body:
                budget.take(answer["ContentLength"])
                return b"".join(self._pieces(body, pace))

        found = self._look(key, get)
        if found is None:
            raise ContentMissing("chunks of the blob are missing")
        return found

    def revision(self, key: str) -> str | None:
        """The object's ETag, None if it is absent."""

        def head() -> str:
            etag: str = self._client.head_object(Key=key, **self._place)["ETag"]
            return etag

        return self._look(key, head)

    def write(self, key: str, data: bytes, pace: Pace, expect: str | None) -> str:
        """Write if the object's ETag is still `expect` (None: it is absent); returns the new one.

        Raises RevisionConflict, and ContentMissing if an expected object is gone.
        """
        condition = {"IfNoneMatch": "*"} if expect is None else {"IfMatch": expect}
        with translating(self._name, self._options):
            try:
                return self._put(key, data, pace, condition)
            except ClientError as error:
                if status_of(error) != 412 or not was_repeated(error):
                    raise
                mine = self.read(key, pace, len(data) + 1)
                if mine is None or mine.data != data:
                    raise
                return mine.revision  # the first attempt got through, and its answer did not

    def store(self, key: str, data: bytes, pace: Pace) -> str:
        """Write whatever is there; returns the new ETag."""
        with translating(self._name, self._options):
            return self._put(key, data, pace, {})

    def remove(self, keys: Sequence[str]) -> None:
        """Absent ones are fine. At most MAX_DELETES."""
        objects = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        with translating(self._name, self._options):
            answer = self._client.delete_objects(Delete=objects, **self._place)
            for error in answer.get("Errors", ()):
                metadata = {"HTTPStatusCode": 403 if error.get("Code") == "AccessDenied" else 500}
                raise ClientError({"Error": error, "ResponseMetadata": metadata}, "DeleteObjects")

    def listed(self, prefix: str) -> list[str]:
        """The first keys that begin with `prefix`, at most MAX_DELETES."""
        with translating(self._name, self._options):
            answer = self._client.list_objects_v2(Prefix=prefix, MaxKeys=MAX_DELETES, **self._place)
            return [found["Key"] for found in answer.get("Contents", ())]

    def require_conditions(self, key: str, pace: Pace) -> None:
        """Raises TransportRefused unless the service heeds conditions, on which all safety against lost updates rests;
        `key` must be there."""
        for expect in (None, '"00000000000000000000000000000000"'):
            try:
                self.write(key, b"conditions are not heeded", pace, expect)
            except RevisionConflict:
                continue
            raise TransportRefused(f"{self._name} does not heed conditional writes: use a bucket of AWS S3")

    @property
    def _name(self) -> str:
        return f"the bucket {self._options.bucket}"

    def _put(self, key: str, data: bytes, pace: Pace, condition: dict[str, str]) -> str:
        self._meter.sent(len(data))
        answer = self._client.put_object(Key=key, Body=Upload(data, pace), **condition, **self._place)
        etag: str = answer["ETag"]
        return etag

    def _read(self, key: str, pace: Pace, max_bytes: int) -> Entry:
        answer = self._client.get_object(Key=key, **self._place)
        with closing(answer["Body"]) as body:
            found, size = [], 0
            for piece in self._pieces(body, pace):
                found.append(piece)
                size += len(piece)
                if size >= max_bytes:
                    break
        return Entry(b"".join(found)[:max_bytes], answer["ETag"])

    def _pieces(self, body: Any, pace: Pace) -> Iterator[bytes]:
        for piece in body.iter_chunks(PIECE_BYTES):
            pace.progressed()
            self._meter.received(len(piece))
            yield piece

    def _look(self, key: str, look: Callable[[], T]) -> T | None:
        """What `look` finds, None if there is no such object."""
        with translating(self._name, self._options):
            try:
                return look()
            except ClientError as error:
                if status_of(error) == 404 and code_of(error) != "NoSuchBucket":
                    return None
                if status_of(error) == 403 and not self._is_listed(key):
                    return None
                raise

    def _is_listed(self, key: str) -> bool:
        """S3 calls an absent object forbidden to whoever may not list the whole bucket: look at that key alone."""
        try:
            answer = self._client.list_objects_v2(Prefix=key, MaxKeys=1, **self._place)
        except ClientError:
            return True  # then the first refusal tells more
        return any(found["Key"] == key for found in answer.get("Contents", ()))
