"""GET /symetry/rest/{cid}/fedml/{pid}/syncStats."""

from gramian_aws.function import endpoint

handler = endpoint("federation.sync_stats")
