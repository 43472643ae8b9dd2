"""DELETE /symetry/rest/{cid}/projects/{pid}/models/{mid}."""

from gramian_aws.function import endpoint

handler = endpoint("models.delete")
