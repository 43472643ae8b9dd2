"""DELETE /symetry/rest/{cid}/projects/{pid}."""

from gramian_aws.function import endpoint

handler = endpoint("projects.delete")
