"""GET /symetry/rest/{cid}/projects/list."""

from gramian_aws.function import endpoint

handler = endpoint("projects.listed")
