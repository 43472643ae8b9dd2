"""What AWS and botocore say, in words that tell what to do."""

from __future__ import annotations

from collections import Counter

import botocore.exceptions
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from gramian.errors import StoreError
from gramian_aws import errors
from gramian_aws.errors import code_of, explain, translating


def refusal(code, message="No.", status=400, **more):
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}, **more}, "PutItem"
    )


def test_no_code_stands_in_the_table_twice():
    """The first row that fits counts: a second could never."""
    counts = Counter(code for row in errors._TABLE for code in row.codes)
    assert [code for code, count in counts.items() if count > 1] == []


@pytest.mark.parametrize(
    ("error", "words", "transient", "doubtful"),
    [
        (refusal("AccessDeniedException"), "do a:B on table t: allow that in the policy of its role", False, False),
        (refusal("403", status=403), "allow that in the policy", False, False),
        (refusal("ResourceNotFoundException"), "no table t in this account and region", False, False),
        (refusal("ExpiredTokenException"), "credentials of this node have expired: renew them", False, False),
        (refusal("UnrecognizedClientException"), "does not know the credentials", False, False),
        (refusal("RequestTimeTooSkewed"), "the clock of this node is wrong: set it", False, False),
        (refusal("ThrottlingException"), "AWS throttles a:B on table t: try again", True, False),
        (refusal("SlowDown", status=503), "AWS throttles a:B on table t", True, False),
        (refusal("InternalServerError", status=500), "table t is out of order at AWS: try again", True, True),
        (refusal("NeverHeardOf", status=502), "out of order at AWS", True, True),
        (
            refusal("ValidationException", "Too odd."),
            "refuses a:B on table t: ValidationException: Too odd.",
            False,
            False,
        ),
        (
            botocore.exceptions.EndpointConnectionError(endpoint_url="http://x", error="refused"),
            "AWS cannot be reached for table t",
            True,
            False,
        ),
        (
            botocore.exceptions.ConnectTimeoutError(endpoint_url="http://x"),
            "AWS cannot be reached for table t",
            True,
            False,
        ),
        (botocore.exceptions.ReadTimeoutError(endpoint_url="http://x"), "did not answer a:B on table t", True, True),
        (botocore.exceptions.ConnectionClosedError(endpoint_url="http://x"), "did not answer a:B", True, True),
        (botocore.exceptions.SSLError(endpoint_url="http://x", error="bad"), "check AWS_CA_BUNDLE", False, False),
        (botocore.exceptions.NoCredentialsError(), "no AWS credentials: give it a role", False, False),
    ],
    ids=lambda value: code_of(value) if isinstance(value, Exception) else "",
)
def test_error_is_explained(error, words, transient, doubtful):
    """What is wrong, what to do, whether to try again, and whether it may have been done."""
    fault = explain(error, "a:B", "table t")
    assert words in fault.text
    assert (fault.transient, fault.doubtful) == (transient, doubtful)


def test_every_exception_of_botocore_is_explained():
    """Also those that its next version adds: by their kind, else in its own words."""
    kinds = [kind for kind in vars(botocore.exceptions).values() if isinstance(kind, type)]
    raised = [kind.__new__(kind) for kind in kinds if issubclass(kind, BotoCoreError)]
    assert len(raised) > 50
    for error in raised:
        assert explain(error, "a:B", "table t").text


def test_failed_condition_counts_among_reasons_of_transaction():
    """Whatever else was in the way."""
    reasons = [{"Code": "None"}, {"Code": "TransactionConflict"}, {"Code": "ConditionalCheckFailed"}]
    assert code_of(refusal("TransactionCanceledException", CancellationReasons=reasons)) == "ConditionalCheckFailed"
    assert code_of(refusal("TransactionCanceledException", CancellationReasons=reasons[:2])) == "TransactionConflict"
    assert code_of(refusal("TransactionCanceledException")) == "TransactionCanceledException"


def test_words_of_aws_are_short_printable_and_quote_no_request():
    """A wrong signature is answered with the request as AWS sees it, the session's token included."""
    message = "The signature does not match.\x07\n\nThe Canonical String should have been\nx-amz-security-token:SECRET"
    text = explain(refusal("SignatureDoesNotMatch", message), "a:B", "table t").text
    assert "The signature does not match. " in text
    assert "SECRET" not in text
    assert text.isprintable()
    assert len(explain(refusal("Odd", "x" * 10_000), "a:B", "table t").text) < 500


def test_translating_makes_store_errors_of_aws_errors_only():
    """With the cause chained; a mistake of ours stays what it is."""
    with pytest.raises(StoreError, match="throttles") as raised, translating("a:B", "table t"):
        raise refusal("ThrottlingException")
    assert isinstance(raised.value.__cause__, ClientError)
    with pytest.raises(KeyError), translating("a:B", "table t"):
        raise KeyError
