"""POST /symetry/rest/{cid}/projects/{pid}/uploads."""

from gramian_aws.function import endpoint

handler = endpoint("uploads.create")
