"""DELETE /symetry/rest/{cid}/fedml/{pid}/clearErrorLog."""

from gramian_aws.function import endpoint

handler = endpoint("federation.clear_error_log")
