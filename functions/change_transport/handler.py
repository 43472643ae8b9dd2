"""POST /symetry/rest/{cid}/fedml/{pid}/setTransport."""

from gramian_aws.function import endpoint

handler = endpoint("federation.set_transport")
