"""GET /openapi.json."""

from gramian_aws.function import public_endpoint

handler = public_endpoint("openapi.serve")
