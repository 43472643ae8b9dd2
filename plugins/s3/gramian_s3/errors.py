"""How the errors of AWS become Gramian's: one table, used at the edge of the plugin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

from botocore import exceptions as boto
from botocore.exceptions import BotoCoreError, ClientError

from gramian.errors import (
    ContentMissing,
    RevisionConflict,
    TransportError,
    TransportFull,
    TransportRefused,
    TransportUnavailable,
)
from gramian_s3.options import S3Options

MAX_WORDS = 200
"""Longest quote of a service, in characters."""

_Match: TypeAlias = type[Exception] | int | str
_LATE = "did not answer in time: try again, or raise aws_req_timeout"
_BUSY = "is busy ({words}): try again"
_ELSEWHERE = "is in another region ({words}): check aws_region"
_NO_CREDENTIALS = "cannot be used: this node has no AWS credentials of its own; give aws_access_key and aws_secret_key"
_EXPIRED = "refuses the credentials, which have expired ({words})"
_NO_TOPIC = "knows no such topic: check aws_topic_arn"

# What to look for (an error code, a status, or a class), what it becomes, and the words after the service's name. The
# first match wins.
_TABLE: tuple[tuple[_Match, type[TransportError], str], ...] = (
    ("PreconditionFailed", RevisionConflict, "has another revision by now"),
    ("ConditionalRequestConflict", RevisionConflict, "is being written by somebody else"),
    ("NoSuchKey", ContentMissing, "has no such object"),
    ("NoSuchBucket", TransportRefused, "does not exist: check s3_bucket, or have the bucket made"),
    ("InvalidAccessKeyId", TransportRefused, "does not know the access key: check aws_access_key"),
    ("InvalidClientTokenId", TransportRefused, "does not know the access key: check aws_access_key"),
    ("UnrecognizedClientException", TransportRefused, "does not know the access key: check aws_access_key"),
    ("SignatureDoesNotMatch", TransportRefused, "refuses the signature: check aws_secret_key"),
    ("InvalidSignatureException", TransportRefused, "refuses the signature: check aws_secret_key"),
    ("ExpiredToken", TransportRefused, _EXPIRED),
    ("ExpiredTokenException", TransportRefused, _EXPIRED),
    ("InvalidToken", TransportRefused, _EXPIRED),
    ("RequestTimeTooSkewed", TransportRefused, "refuses the date of the request: set this node's clock"),
    ("RequestExpired", TransportRefused, "refuses the date of the request: set this node's clock"),
    ("PermanentRedirect", TransportRefused, _ELSEWHERE),
    ("AuthorizationHeaderMalformed", TransportRefused, _ELSEWHERE),
    ("IllegalLocationConstraintException", TransportRefused, _ELSEWHERE),
    ("NotImplemented", TransportRefused, "cannot do what is needed ({words}): a bucket of AWS S3 can"),
    ("XMinioStorageFull", TransportFull, "has no room ({words})"),
    ("NotFound", TransportRefused, _NO_TOPIC),
    ("NotFoundException", TransportRefused, _NO_TOPIC),
    ("AWS.SimpleQueueService.NonExistentQueue", ContentMissing, "has no such queue"),
    ("QueueDoesNotExist", ContentMissing, "has no such queue"),
    ("AWS.SimpleQueueService.QueueDeletedRecently", TransportUnavailable, "removed the queue just now: try again"),
    ("QueueDeletedRecently", TransportUnavailable, "removed the queue just now: try again"),
    ("Throttling", TransportUnavailable, _BUSY),
    ("ThrottlingException", TransportUnavailable, _BUSY),
    ("RequestThrottled", TransportUnavailable, _BUSY),
    ("RequestTimeout", TransportUnavailable, _LATE),
    (301, TransportRefused, _ELSEWHERE),
    (401, TransportRefused, "refuses the request ({words}): {hints.access_hint}"),
    (403, TransportRefused, "refuses the request ({words}): {hints.access_hint}"),
    (404, ContentMissing, "has no such object"),
    (409, RevisionConflict, "is being written by somebody else"),
    (412, RevisionConflict, "has another revision by now"),
    (429, TransportUnavailable, _BUSY),
    (500, TransportUnavailable, _BUSY),
    (502, TransportUnavailable, _BUSY),
    (503, TransportUnavailable, _BUSY),
    (504, TransportUnavailable, _BUSY),
    (507, TransportFull, "has no room ({words})"),
    (boto.NoCredentialsError, TransportRefused, _NO_CREDENTIALS),
    (boto.PartialCredentialsError, TransportRefused, _NO_CREDENTIALS),
    (boto.CredentialRetrievalError, TransportUnavailable, "cannot be used: this node's credentials fail: {words}"),
    (boto.ConnectTimeoutError, TransportUnavailable, _LATE),
    (boto.ReadTimeoutError, TransportUnavailable, _LATE),
    (boto.SSLError, TransportRefused, "cannot be trusted: {words}"),
    (boto.ConnectionError, TransportUnavailable, "cannot be reached: {words}"),
    (boto.HTTPClientError, TransportUnavailable, "cannot be reached: {words}"),
    (ClientError, TransportRefused, "refuses: {words}"),
    (BotoCoreError, TransportUnavailable, "cannot be used: {words}"),
)


@contextmanager
def translating(service: str, hints: S3Options) -> Iterator[None]:
    """Turn the errors of boto3 into transport errors that say which option to look at. Others pass as they are.

    `service`: how it is named in texts."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise _translated(error, service, hints) from error


def code_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def was_repeated(error: ClientError) -> bool:
    """Whether botocore had sent the request before: then an earlier one may have done what this one found done."""
    return int(error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0)) > 0


def _translated(cause: ClientError | BotoCoreError, service: str, hints: S3Options) -> TransportError:
    kind, text = next((kind, text) for match, kind, text in _TABLE if _matches(match, cause))
    return kind(f"{service} {text.format(words=_words(cause), hints=hints)}")


def _matches(match: _Match, cause: ClientError | BotoCoreError) -> bool:
    if isinstance(match, type):
        return isinstance(cause, match)
    if not isinstance(cause, ClientError):
        return False
    return match == (code_of(cause) if isinstance(match, str) else status_of(cause))


def _words(cause: ClientError | BotoCoreError) -> str:
    """What the service said, short, printable and on one line."""
    said = str(cause)
    if isinstance(cause, ClientError):
        said = str(cause.response.get("Error", {}).get("Message", "")) or code_of(cause)
    return "".join(char if char.isprintable() else " " for char in said)[:MAX_WORDS]
