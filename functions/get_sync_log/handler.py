"""GET /symetry/rest/{cid}/fedml/{pid}/getSyncLog."""

from gramian_aws.function import endpoint

handler = endpoint("federation.get_sync_log")
