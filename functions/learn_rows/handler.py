"""POST /symetry/rest/{cid}/projects/{pid}/learn."""

from gramian_aws.function import endpoint

handler = endpoint("projects.learn")
