"""AWS clients: made when first used, one for each service and process, shared by all threads.

By botocore itself rather than boto3 on top of it: the clients are the same, and a cold start imports 60 modules less.
Region, credentials and endpoint come from where AWS's tools look for them (`AWS_REGION`, `AWS_ENDPOINT_URL`, roles).
"""

from __future__ import annotations

import threading
from typing import Any, Final

from gramian.errors import PluginError

_MAX_CONNECTIONS: Final = 64
_CONNECT_TIMEOUT_S: Final = 3.0
_READ_TIMEOUT_S: Final = {"dynamodb": 5.0, "s3": 30.0}
_OTHER_READ_TIMEOUT_S: Final = 15.0
# The stores repeat calls of DynamoDB themselves: only who sees every attempt knows whether a lost one took effect.
_ATTEMPTS: Final = {"dynamodb": 1}
_OTHER_ATTEMPTS: Final = 4

_clients: dict[str, Any] = {}
_lock = threading.Lock()


def client(service: str) -> Any:
    """The client of a service, such as `dynamodb`. Raises PluginError if AWS is not configured here."""
    with _lock:
        if service not in _clients:
            _clients[service] = make(service)
        return _clients[service]


def make(service: str, **arguments: Any) -> Any:
    """Another client; `arguments` as for botocore's create_client. Raises PluginError as `client` does."""
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S.get(service, _OTHER_READ_TIMEOUT_S),
        max_pool_connections=_MAX_CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS.get(service, _OTHER_ATTEMPTS)},
        tcp_keepalive=True,
        signature_version="s3v4" if service == "s3" else None,  # else presigned addresses may be of the old kind
    )
    try:
        return botocore.session.get_session().create_client(service, config=config, **arguments)
    except (BotoCoreError, ValueError) as error:
        raise PluginError(
            f"AWS is not configured here ({error}): set AWS_REGION, and AWS_PROFILE or keys where no role gives them"
        ) from error
