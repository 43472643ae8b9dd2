"""POST /symetry/rest/{cid}/fedml/{pid}/leave."""

from gramian_aws.function import endpoint

handler = endpoint("federation.leave")
