"""POST /symetry/rest/{cid}/projects/{pid}/predict/{mid}."""

from gramian_aws.function import endpoint

handler = endpoint("models.predict")
