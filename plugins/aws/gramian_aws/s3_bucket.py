"""Calls of one S3 bucket: what is absent is an answer, everything else that goes wrong a StoreError."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from gramian.errors import StoreError
from gramian_aws import clients
from gramian_aws.errors import code_of, translating

MISSING: Final = frozenset({"NoSuchKey", "404", "NotFound"})
PAST_END: Final = frozenset({"InvalidRange", "416"})
_PERMISSIONS: Final = {
    "put_object": "s3:PutObject",
    "copy_object": "s3:PutObject and s3:GetObject",
    "get_object": "s3:GetObject (and s3:ListBucket, to be told what is absent)",
    "head_object": "s3:GetObject (and s3:ListBucket, to be told what is absent)",
    "delete_object": "s3:DeleteObject",
    "delete_objects": "s3:DeleteObject",
    "list_objects_v2": "s3:ListBucket",
}


class Bucket:
    """A bucket by name. Shared by threads; the client is made by the first call."""

    def __init__(self, name: str, *, kms_key: str | None = None, client: Any = None) -> None:
        """kms_key: id or ARN of the key that encrypts; by default as the bucket is set up.
        client: of another account or endpoint; by default the process's own."""
        self.name = name
        self.encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
        """What goes with every write."""
        self._client = client

    @property
    def client(self) -> Any:
        return self._client or clients.client("s3")

    def call(self, operation: str, *, unless: Collection[str] = (), **request: Any) -> dict[str, Any] | None:
        """The answer; None if AWS says no with a code in `unless`. Raises StoreError."""
        from botocore.exceptions import ClientError

        with self.calling(operation):
            try:
                answer: dict[str, Any] = getattr(self.client, operation)(Bucket=self.name, **request)
            except ClientError as error:
                if code_of(error) not in unless:
                    raise
                return None
        return answer

    def calling(self, operation: str) -> AbstractContextManager[None]:
        """Turns what goes wrong with an operation into StoreError."""
        return translating(_PERMISSIONS[operation], f"bucket {self.name}")

    def head(self, key: str) -> dict[str, Any] | None:
        """What S3 tells of an object, checksums included; None if it is absent."""
        return self.call("head_object", Key=key, ChecksumMode="ENABLED", unless=MISSING)

    def pages(self, start: str) -> Iterator[Sequence[dict[str, Any]]]:
        """Objects whose key begins with `start`, in order of their keys; no page is empty."""
        more: dict[str, str] = {}
        while True:
            answer = self.call("list_objects_v2", Prefix=start, **more) or {}
            if found := answer.get("Contents"):
                yield found
            if not answer.get("IsTruncated"):
                return
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def remove(self, keys: Sequence[str]) -> None:
        """Remove up to a thousand objects; absent ones are fine."""
        if not keys:
            return
        doomed = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        answer = self.call("delete_objects", Delete=doomed) or {}
        for error in answer.get("Errors", [])[:1]:
            raise StoreError(
                f"AWS does not remove {error['Key']} from bucket {self.name}: {error['Code']}, "
                f"{error.get('Message', '')}: allow s3:DeleteObject there in the policy of this node's role."
            )
