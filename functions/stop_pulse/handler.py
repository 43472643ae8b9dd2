"""GET /symetry/rest/{cid}/fedml/{pid}/stopPulse."""

from gramian_aws.function import endpoint

handler = endpoint("federation.stop_pulse")
