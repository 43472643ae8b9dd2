"""GET /symetry/rest/{cid}/jobs/{number}."""

from gramian_aws.function import endpoint

handler = endpoint("jobs.find")
