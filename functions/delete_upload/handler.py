"""DELETE /symetry/rest/{cid}/projects/{pid}/uploads/{upload}."""

from gramian_aws.function import endpoint

handler = endpoint("uploads.delete")
