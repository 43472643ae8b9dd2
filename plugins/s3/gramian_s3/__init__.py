"""Gramian's transport over S3, nudges over SNS and SQS. Importing this is cheap; boto3 is imported on first use."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from gramian.errors import PluginError
from gramian.hookspecs import Option, Options, hookimpl
from gramian.ports import Transport

gramian_api = "1"


@hookimpl
def gramian_options() -> Sequence[Option]:
    return (
        Option(
            "role_buckets",
            default="",
            help="buckets, joined by commas, that federations may use with this node's own AWS credentials; * for all",
        ),
        Option(
            "role_topics",
            default="",
            help="ARNs of SNS topics, joined by commas, that those federations may use with them too; * for all",
        ),
    )


@hookimpl
def gramian_transport(options: Options) -> Transport:
    from gramian_s3.transport import S3Transport

    if find_spec("boto3") is None:
        raise PluginError("federations over S3 need the extra s3 on this node: pip install 'gramian[s3]'")
    return S3Transport(_listed(options["role_buckets"]), _listed(options["role_topics"]))


def _listed(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(",")) - {""}
