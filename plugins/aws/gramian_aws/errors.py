"""What goes wrong with AWS, in words: one table, used wherever a plugin calls AWS.

`explain` gives the words and says whether the call may work later and whether it may have taken effect; which error
that becomes is up to the caller. `translating` makes it a StoreError.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from gramian.errors import StoreError

CONDITION_FAILED: Final = frozenset(
    {"ConditionalCheckFailedException", "ConditionalCheckFailed", "PreconditionFailed", "412"}
)
_CANCELED: Final = "TransactionCanceledException"
_MAX_WORDS: Final = 300


class Fault(msgspec.Struct, frozen=True):
    """A failed call. `text`: what is wrong and what to do. `transient`: it may work later.
    `doubtful`: it may have taken effect all the same."""

    text: str
    transient: bool = False
    doubtful: bool = False


class _Row(msgspec.Struct, frozen=True):
    """Codes of AWS or names of botocore's exceptions, and what they mean."""

    codes: frozenset[str]
    text: str
    transient: bool = False
    doubtful: bool = False

    def fault(self, **words: str) -> Fault:
        return Fault(self.text.format(**words), self.transient, self.doubtful)


def _row(codes: str, text: str, *, transient: bool = False, doubtful: bool = False) -> _Row:
    return _Row(frozenset(codes.split()), text, transient, doubtful)


_TABLE: Final[tuple[_Row, ...]] = (
    _row(
        "AccessDenied AccessDeniedException UnauthorizedOperation AllAccessDisabled KMSAccessDeniedException 403",
        "AWS does not let this node do {action} on {resource}: allow that in the policy of its role ({said})",
    ),
    _row(
        "ResourceNotFoundException TableNotFoundException NoSuchBucket ResourceNotFound",
        "AWS has no {resource} in this account and region: create it, or correct its name in the settings",
    ),
    _row(
        "PermanentRedirect AuthorizationHeaderMalformed IllegalLocationConstraintException 301",
        "{resource} is in another region: set AWS_REGION to it ({said})",
    ),
    _row(
        "UnrecognizedClientException InvalidClientTokenId InvalidAccessKeyId SignatureDoesNotMatch InvalidToken "
        "InvalidSignatureException MissingAuthenticationToken MissingAuthenticationTokenException",
        "AWS does not know the credentials of this node: check its role or keys ({said})",
    ),
    _row(
        "ExpiredToken ExpiredTokenException TokenRefreshRequired",
        "the credentials of this node have expired: renew them ({said})",
    ),
    _row(
        "RequestTimeTooSkewed RequestExpired RequestInTheFuture",
        "the clock of this node is wrong: set it ({said})",
    ),
    _row(
        "NoCredentialsError PartialCredentialsError CredentialRetrievalError TokenRetrievalError NoAuthTokenError",
        "this node has no AWS credentials: give it a role, or set AWS_PROFILE or keys ({said})",
    ),
    _row(
        "ProvisionedThroughputExceededException ProvisionedThroughputExceeded ThrottlingException ThrottlingError "
        "Throttling ThrottledException RequestThrottled RequestThrottledException RequestLimitExceeded SlowDown "
        "TooManyRequestsException BandwidthLimitExceeded LimitExceededException 429",
        "AWS throttles {action} on {resource}: try again, and raise its capacity or limits if this goes on",
        transient=True,
    ),
    _row(
        "TransactionConflict TransactionConflictException ConditionalRequestConflict OperationAborted 409",
        "others write to the same items of {resource} all the time: try again",
        transient=True,
    ),
    _row(
        "TransactionInProgressException",
        "{resource} is still at work on the same writes: try again",
        transient=True,
        doubtful=True,
    ),
    _row(
        "InternalServerError InternalError InternalFailure ServiceUnavailable ServiceUnavailableException "
        "RequestTimeout RequestTimeoutException PriorRequestNotComplete 500 502 503 504",
        "{resource} is out of order at AWS: try again ({said})",
        transient=True,
        doubtful=True,
    ),
    _row(
        "EndpointConnectionError ConnectTimeoutError ProxyConnectionError ConnectionError",
        "AWS cannot be reached for {resource}: check the network, the VPC's endpoints and AWS_REGION ({said})",
        transient=True,
    ),
    _row("SSLError", "the TLS connection to AWS cannot be trusted: check AWS_CA_BUNDLE and any proxy ({said})"),
    _row(
        "ReadTimeoutError ConnectionClosedError ResponseStreamingError IncompleteReadError HTTPClientError",
        "AWS did not answer {action} on {resource}: try again ({said})",
        transient=True,
        doubtful=True,
    ),
    _row(
        "EntityTooLarge ItemCollectionSizeLimitExceededException ItemCollectionSizeLimitExceeded",
        "what is to be stored is too large for {resource} ({said})",
    ),
)


def explain(error: Exception, action: str, resource: str) -> Fault:
    """A failed call in words. `action`: the permission it needs, such as `dynamodb:PutItem`; `resource`: on what."""
    code = code_of(error)
    words = {"action": action, "resource": resource, "said": _said(error, code)}
    for candidate in (code, *_class_names(error), str(status_of(error))):
        for row in _TABLE:
            if candidate in row.codes:
                return row.fault(**words)
    return Fault(f"AWS refuses {action} on {resource}: {words['said']}")


@contextmanager
def translating(action: str, resource: str) -> Iterator[None]:
    """Turn the errors of AWS into StoreError; others pass as they are."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise StoreError(explain(error, action, resource).text) from error


def code_of(error: Exception) -> str:
    """AWS's code, or the name of botocore's exception. Of a cancelled transaction, that of the reason: a condition
    that failed, else the first."""
    code = str(_answer(error).get("Error", {}).get("Code", type(error).__name__))
    if code != _CANCELED:
        return code
    reasons = [str(reason.get("Code")) for reason in _answer(error).get("CancellationReasons", [])]
    telling = [reason for reason in reasons if reason != "None"]
    return next((reason for reason in telling if reason in CONDITION_FAILED), telling[0] if telling else code)


def status_of(error: Exception) -> int:
    """The HTTP status; 0 if there was no answer."""
    return int(_answer(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _answer(error: Exception) -> Mapping[str, Any]:
    response: Mapping[str, Any] = getattr(error, "response", None) or {}
    return response


def _class_names(error: Exception) -> list[str]:
    """Also of base classes, so that what botocore adds is known by its kind."""
    return [kind.__name__ for kind in type(error).__mro__]


def _said(error: Exception, code: str) -> str:
    """What AWS said, short and printable. Its first line: more may quote the request, with a session's token."""
    message = str(_answer(error).get("Error", {}).get("Message") or error).partition("\n")[0]
    text = message if code in message or not _answer(error) else f"{code}: {message}"
    return "".join(char if char.isprintable() else " " for char in text)[:_MAX_WORDS]
