"""The hooks of the stores on AWS; each imports what it makes only when that is selected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gramian.hookspecs import Option, Options, hookimpl
from gramian.ports import BlobStore, StateStore, TokenStore, UploadStore

gramian_api = "1"

_TABLE: Final = Option("table", required=True, help="Name of the DynamoDB table, with the string keys pk and sk.")
_BUCKET: Final = (
    Option("bucket", required=True, help="Name of the bucket of blobs and uploads."),
    Option("prefix", default="", help="What the keys of all objects begin with, such as node1/."),
    Option("kms_key", help="Id or ARN of the KMS key that encrypts.  [default: as the bucket is set up]"),
)
_OPTIONS: Final[dict[str, tuple[Option, ...]]] = {
    "state.dynamodb": (_TABLE,),
    "tokens.dynamodb": (_TABLE,),
    "blobs.s3": _BUCKET,
    "uploads.s3": _BUCKET,
}


@hookimpl
def gramian_options(kind: str, name: str) -> Sequence[Option]:
    return _OPTIONS[f"{kind}.{name}"]


@hookimpl
def gramian_state_store(options: Options) -> StateStore:
    from gramian_aws.dynamodb import DynamoStateStore
    from gramian_aws.dynamodb_table import Table

    return DynamoStateStore(Table(options["table"]))


@hookimpl
def gramian_token_store(options: Options) -> TokenStore:
    from gramian_aws.dynamodb_table import Table
    from gramian_aws.tokens import DynamoTokenStore

    return DynamoTokenStore(Table(options["table"]))


@hookimpl
def gramian_blob_store(options: Options) -> BlobStore:
    from gramian_aws.s3 import S3BlobStore
    from gramian_aws.s3_bucket import Bucket

    return S3BlobStore(Bucket(options["bucket"], kms_key=options["kms_key"]), prefix=options["prefix"])


@hookimpl
def gramian_upload_store(options: Options) -> UploadStore:
    from gramian_aws.s3_bucket import Bucket
    from gramian_aws.s3_uploads import S3UploadStore

    return S3UploadStore(Bucket(options["bucket"], kms_key=options["kms_key"]), prefix=options["prefix"])
