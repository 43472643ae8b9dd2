"""GET /symetry/rest/{cid}/fedml/{pid}/setExplorePeers."""

from gramian_aws.function import endpoint

handler = endpoint("federation.set_explore_peers")
