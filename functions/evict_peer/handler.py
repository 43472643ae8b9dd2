"""POST /symetry/rest/{cid}/fedml/{pid}/evict."""

from gramian_aws.function import endpoint

handler = endpoint("federation.evict")
