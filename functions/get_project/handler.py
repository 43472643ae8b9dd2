"""GET /symetry/rest/{cid}/projects/{pid}/info."""

from gramian_aws.function import endpoint

handler = endpoint("projects.info")
