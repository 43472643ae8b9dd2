"""GET /symetry/rest/{cid}/fedml/{pid}/info."""

from gramian_aws.function import endpoint

handler = endpoint("federation.info")
