"""GET /symetry/rest/{cid}/fedml/{pid}/newSchedule."""

from gramian_aws.function import endpoint

handler = endpoint("federation.new_schedule")
