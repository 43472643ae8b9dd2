"""POST /symetry/rest/{cid}/projects/{pid}/forget."""

from gramian_aws.function import endpoint

handler = endpoint("projects.forget")
