"""The parts that `gramian.http.openapi` puts documents together from: entities, parameters, failures, signatures.

Entities are those of the contract, section 2.3. Imported only where a document is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from gramian.domain.protocol.redemption import Request as Redemption
from gramian.http.envelope import STATUS
from gramian.usecases.modeling.context import MLContext

JsonSchema: TypeAlias = dict[str, Any]

ABOUT = """\
Exact federated learning as a serverless function bundle. Every answer is an Envelope.

- Names of query parameters may be written in any case. A space is `%20`: a `+` is a plus.
- Non-finite numbers are the bare words `NaN`, `Infinity` and `-Infinity`, unless the request has
  `Accept: application/json; strict=1`: then they are `null`.
- Sealed bodies are the entity's JSON under the user's secret key: `gramian.v2.` and base64url of nonce (12 bytes) and
  AES-256-GCM with the key HKDF-SHA256(secret key, info `gramian/v2/body`) and the associated data method, cid and path,
  each after its 4-byte big-endian length. Base64 of AES-CBC with the contract's fixed IV is taken from old clients
  unless this server refuses it. Sealed parts of an answer come in the cipher of the request.
"""
SIGNATURE = """\
Base64 of HMAC-SHA256, keyed with the user's secret key (decoded from its base64), over these lines, each ended by a
line feed: the method; base64 of the body's MD5, or nothing; the secret key's base64; the Sym-date header; the customer
id; the body, if there is one; the path; the query without its `?`, if there is one. A signature is good once, except
for what changes nothing. `Content-MD5` and `Customer-ID` are checked if they are sent."""
DATE = "`yyyy-MM-dd HH:mm:ss;nanoseconds` in UTC, at most 5 minutes old; the nanoseconds make repeated requests differ."

SECURITY: JsonSchema = {
    "signature": {"type": "apiKey", "in": "header", "name": "Authorization", "description": SIGNATURE},
    "date": {"type": "apiKey", "in": "header", "name": "Sym-date", "description": DATE},
}

_SCHEMA_PATH = "#/components/schemas/"
_TEXT: JsonSchema = {"type": "string"}
_COUNT: JsonSchema = {"type": "integer", "minimum": 0}
_BOOLEAN: JsonSchema = {"type": "boolean"}
_FLAG: JsonSchema = {"type": "string", "enum": ["true", "false"]}
_ID: JsonSchema = {"type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,127}$"}

PARAMETERS: dict[str, tuple[str, str, JsonSchema]] = {
    "cid": ("path", "customer id: the user that signs", _ID),
    "mid": ("path", "model id", _ID),
    "number": ("path", "job number", {"type": "string", "pattern": "^[0-9]{1,12}$"}),
    "pid": ("query", "project id", _ID),
    "upload": ("path", "upload id", {"type": "string", "pattern": "^[0-9a-f]{32}$"}),
    "format": ("query", "format of the file", {"type": "string", "enum": ["csv", "parquet", "json"]}),
    "size": ("query", "its bytes", {"type": "string", "pattern": "^[1-9][0-9]{0,17}$"}),
    "peer": ("query", "id of a member", {"type": "string", "pattern": "^[0-9a-f]{32}$"}),
    "modelid": ("query", "model id", _ID),
    "persist": ("query", "false: kept only until the server stops", {**_FLAG, "default": "true"}),
    "async": ("query", "true: answered at once, with a job", {**_FLAG, "default": "false"}),
    "impute": ("query", "only false for now: a gap counts as the column's mean", {**_FLAG, "default": "false"}),
    "type": ("query", "kind of project", {"type": "string", "enum": ["cpu", "dynamic"], "default": "cpu"}),
    "algo": ("query", "algorithm", {"type": "string", "enum": ["mlr"]}),
    "seal": ("query", "cipher of the answer, as there is no body to follow", {"type": "string", "enum": ["v1", "v2"]}),
    "newSchedule": (
        "query",
        "minutes, hours or days: m30, h3, d7",
        {"type": "string", "pattern": "^[mhd][1-9][0-9]*$"},
    ),
    "allowExplore": ("query", "whether others may explore this node's own summary", _FLAG),
    "Idempotency-Key": (
        "header",
        "a name for this change: repeated under it within 24 hours, it is not made again",
        {"type": "string", "pattern": "^[!-~]([ -~]{0,253}[!-~])?$"},
    ),
}
"""Place (a name in the path's template is always there), description, schema."""


def ref(name: str) -> JsonSchema:
    """An entity by name; `text` is a plain string."""
    return _TEXT if name == "text" else {"$ref": _SCHEMA_PATH + name}


def envelope(values: Mapping[str, str], *, always: bool) -> JsonSchema:
    """An answer whose `values` hold these entities, `always` or perhaps."""
    if not values:
        return ref("Envelope")
    held = _record({key: ref(name) for key, name in values.items()}, required=tuple(values) if always else ())
    return {"allOf": [ref("Envelope"), {"type": "object", "properties": {"values": held}}]}


def failures() -> dict[str, JsonSchema]:
    """References to what every operation may answer instead of a success, by HTTP status."""
    return {str(STATUS[name]): {"$ref": f"#/components/responses/{name}"} for name in _FAILURES}


def responses() -> dict[str, JsonSchema]:
    """All that `failures` refers to."""
    content = {"application/json": {"schema": ref("Envelope")}}
    return {name: {"description": text, "content": content} for name, text in _FAILURES.items()}


def schemas() -> dict[str, JsonSchema]:
    """All entities by name."""
    _, structs = msgspec.json.schema_components([MLContext, Redemption], ref_template=_SCHEMA_PATH + "{name}")
    return _ENTITIES | {"MLContext": structs["MLContext"], "Redemption": structs["Request"]}


def _array(items: JsonSchema) -> JsonSchema:
    return {"type": "array", "items": items}


def _mapping(values: JsonSchema) -> JsonSchema:
    return {"type": "object", "additionalProperties": values}


def _record(properties: Mapping[str, JsonSchema], *, required: tuple[str, ...] | None = None) -> JsonSchema:
    """An object; its properties are all required unless told otherwise. Others may come."""
    needed = list(properties if required is None else required)
    return {"type": "object", "properties": dict(properties), **({"required": needed} if needed else {})}


def _described(schema: JsonSchema, description: str) -> JsonSchema:
    return {**schema, "description": description}


def _wishes(description: str, properties: Mapping[str, JsonSchema], *required: str) -> JsonSchema:
    """A flat map of scalars in which unknown keys are ignored."""
    scalar = {"type": ["string", "number", "boolean", "null"]}
    return _described({**_record(properties, required=required), "additionalProperties": scalar}, description)


_FAILURES = {
    "BAD_REQUEST": "The request cannot work as it stands; `statusString` says why and what to do.",
    "UNAUTHORIZED": "Unknown customer or wrong signature; `values.stringToSign` is what this server would have signed.",
    "CONFLICT": "The id is taken, or the same operation still runs.",
    "REQUEST_ENTITY_TOO_LARGE": "A budget for input is exceeded; `statusString` names it.",
    "SERVICE_UNAVAILABLE": "Something that this node needs is down; the same request may work later.",
}

_LINE: dict[str, JsonSchema] = {
    "nats_hosts": _described(_TEXT, "URLs of NATS servers, separated by commas: nats://host:4222 or tls://host:4222"),
    "nats_sec_user": _described(_TEXT, "login by user and password"),
    "nats_sec_passwd": _TEXT,
    "nats_sec_token": _described(_TEXT, "login by token"),
    "nats_sec_nkey_seed": _described(_TEXT, "login by NKey"),
    "nats_sec_creds": _described(_TEXT, "login by JWT: the text of a credentials file"),
    "nats_sec_shared": _described(_TEXT, "false: invitations leave this login out"),
    "nats_tls_ca": _described(_TEXT, "PEM text of the CA certificates to trust"),
    "nats_tls_cert": _described(_TEXT, "PEM text of this node's client certificate"),
    "nats_tls_key": _described(_TEXT, "PEM text of its key"),
    "nats_stream_replicas": {"type": ["integer", "string"], "description": "copies in a cluster: 1, 3 or 5"},
    "nats_req_timeout": {"type": ["integer", "string"], "description": "seconds, 30 unless given"},
    "nats_stream_max_memory": {"type": ["integer", "string"], "description": "bytes that NATS reserves, 1 GiB"},
    "s3_bucket": _described(_TEXT, "instead of nats_hosts: the bucket where the federation meets"),
    "aws_region": _described(_TEXT, "its region: US_EAST_1 or us-east-1"),
    "aws_access_key": _described(_TEXT, "this node's own AWS credentials; not in invitations"),
    "aws_secret_key": _TEXT,
    "aws_id": _described(_TEXT, "account that must own the bucket"),
    "aws_topic_arn": _described(_TEXT, "SNS topic over which members nudge each other"),
    "aws_topic_region": _TEXT,
    "aws_req_timeout": {"type": ["integer", "string"], "description": "seconds, 30 unless given"},
    "s3_max_blob_bytes": {"type": ["integer", "string"], "description": "bytes of the largest snapshot, 1 GiB"},
    "nats_member_creds": _described(_TEXT, "logins for members: a JSON list, or an account's signing seed"),
}
_OWN: dict[str, JsonSchema] = {
    "fed_local_type": {"type": "string", "enum": ["cpu", "gpu"], "default": "cpu"},
    "fed_push": _described(_TEXT, "false: wait for the schedule instead of merging what others publish at once"),
    **_LINE,
}
_COMMON: dict[str, JsonSchema] = {
    "fed_name": _TEXT,
    "sync_sched": _described(_TEXT, "minutes, hours or days: m30, h3, d7"),
}

_ENTITIES: dict[str, JsonSchema] = {
    "Envelope": _described(
        _record(
            {
                "statusCode": {"type": "string", "enum": list(STATUS)},
                "statusString": _TEXT,
                "values": {"type": "object"},
            }
        ),
        "Every answer. `statusCode` names the HTTP status.",
    ),
    "DataFrame": _described(
        _record(
            {
                "attributeNames": {**_array({"type": "string", "minLength": 1, "maxLength": 256}), "minItems": 1},
                "attributeTypes": _described(
                    _array({"type": "string", "enum": list("CBXcbx")}), "C: a number, B: 1 or 0, X: ignored"
                ),
                "data": _array(_array({"type": ["string", "number", "boolean", "null"]})),
            }
        ),
        "Rows of cells, as text or JSON numbers; empty, `NaN` and null cells are missing values.",
    ),
    "UploadColumns": _described(
        _record(
            {
                "attributeNames": _array(_TEXT),
                "attributeTypes": _array({"type": "string", "enum": list("CBXcbx")}),
            }
        ),
        "Types of columns by name: C a number, B 1 or 0, X ignored. Columns that are not named are ignored.",
    ),
    "Upload": _record(
        {
            "id": _TEXT,
            "method": {"type": "string", "enum": ["PUT"]},
            "url": _described(_TEXT, "where to send the file's bytes, as they are; no signature is needed"),
            "headers": _described(_mapping(_TEXT), "to be sent along, as they are"),
            "expirationDate": _described(_COUNT, "unix milliseconds"),
        }
    ),
    "KSVSMap": _record({"values": _array(_mapping(_TEXT))}),
    "StringList": _record({"values": _array(_TEXT)}),
    "JobInfo": _record(
        {
            "jobId": _COUNT,
            "jobType": _TEXT,
            "owner": _TEXT,
            "startingDate": _described(_COUNT, "unix milliseconds"),
            "current": _described(_COUNT, "how much of `maximum` is done"),
            "maximum": _COUNT,
            "isOnBoundedExecutor": _BOOLEAN,
            "isStarted": _BOOLEAN,
            "isDone": _BOOLEAN,
            "details": _described(_mapping(_TEXT), "`progress` in words, and the `error` of a failed job"),
        }
    ),
    "JobInfoList": _record({"values": _array(ref("JobInfo"))}),
    "ProjectInfo": _record(
        {
            "pid": _TEXT,
            "type": _TEXT,
            "attributeNames": _array(_TEXT),
            "attributeIndexes": _array(_COUNT),
            "attributeTypes": _array(_TEXT),
            "modelsList": _array(_TEXT),
            "modelTypeList": _array(_TEXT),
            "params": _described(_mapping(_TEXT), "also how the federation stands: fed_digest, fed_inputs and more"),
            "creationDate": _described(_COUNT, "unix milliseconds"),
            "lastModificationDate": _COUNT,
            "persisted": _BOOLEAN,
        }
    ),
    "ModelInfo": _record(
        {
            "modelId": _TEXT,
            "modelType": _TEXT,
            "modelBuilt": _described(_COUNT, "how often it was built"),
            "buildTime": _described(_COUNT, "milliseconds"),
            "creationDate": _described(_COUNT, "unix milliseconds"),
            "attributeNames": _array(_TEXT),
            "attributeIndexes": _array(_COUNT),
            "attributeTypes": _array(_TEXT),
            "targetNames": _array(_TEXT),
            "targetindexes": _array(_COUNT),
            "predictInfo": _array(_TEXT),
            "scoreInfo": _array(_TEXT),
            "info": _mapping(_TEXT),
            "extra": _mapping(ref("DataFrame")),
        }
    ),
    "FedSyncStats": _record(
        {
            "sndCount": _COUNT,
            "sndContractError": _COUNT,
            "rcvCount": _COUNT,
            "rcvError": _COUNT,
            "rcvContractError": _mapping(_COUNT),
            "rcvErrorByPeer": _mapping(_COUNT),
            "sndBytes": _COUNT,
            "rcvBytes": _COUNT,
            "lastSyncSeconds": {"type": "number"},
            "lastSyncBytes": _COUNT,
            "errorLog": _array(_TEXT),
            "syncLog": _array(_TEXT),
        }
    ),
    "ProjectOptions": _wishes("Options of a new project; those that are not available yet are refused.", {}),
    "FederationWishes": _wishes(
        "A new federation.",
        {
            **_COMMON,
            **_OWN,
            "fed_encrypt": {"type": ["boolean", "string"], "description": "true: seal what is synced"},
            "fed_recovery_key": _described(_TEXT, "public key, 64 hex digits, whose holder can name another admin"),
        },
        "fed_name",
        "sync_sched",
    ),
    "TransportWishes": _wishes("Options that change; an empty text removes one.", _LINE),
    "AwsAccount": _wishes(
        "Where to look, and as whom.",
        {
            "aws_access_key": _TEXT,
            "aws_secret_key": _TEXT,
            "aws_region": _described(_TEXT, "all regions that the account uses unless given"),
        },
        "aws_access_key",
        "aws_secret_key",
    ),
    "InvitationWishes": _wishes(
        "One invitation.",
        {
            "passwd": _described(_TEXT, "seals the invitation; long, random, and sent another way"),
            "fed_rest_host": _described(_TEXT, "base address of this node as its peers reach it"),
            "fed_token_lifetime_hours": {"type": ["number", "string"], "description": "2 unless given, at most 168"},
            "fed_replaces": _described(_TEXT, "id of a lost member whose place the invited one takes"),
        },
        "passwd",
    ),
    "OpenedInvitation": _wishes(
        "An invitation's map, opened with its password, and this node's own keys.",
        {
            **_COMMON,
            **_OWN,
            "fed_id": _TEXT,
            "fed_rest_url": _described(_TEXT, "where the admin redeems the invitation"),
            "fed_req_token": _described(_TEXT, "FEDTOKEN and 32 hex digits, good once"),
            "fed_secret_key": _described(_TEXT, "base64 of 32 bytes, of this invitation only"),
        },
        "fed_name",
        "sync_sched",
        "fed_id",
        "fed_rest_url",
        "fed_req_token",
        "fed_secret_key",
    ),
}
