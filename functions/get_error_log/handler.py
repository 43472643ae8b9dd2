"""GET /symetry/rest/{cid}/fedml/{pid}/getErrorLog."""

from gramian_aws.function import endpoint

handler = endpoint("federation.get_error_log")
