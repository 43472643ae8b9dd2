"""GET /symetry/rest/{cid}/fedml/{pid}/startPulse."""

from gramian_aws.function import endpoint

handler = endpoint("federation.start_pulse")
