"""GET /symetry/rest/{cid}/jobs."""

from gramian_aws.function import endpoint

handler = endpoint("jobs.listed")
