"""POST /symetry/rest/{cid}/projects/{pid}/build."""

from gramian_aws.function import endpoint

handler = endpoint("models.build")
