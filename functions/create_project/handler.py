"""POST /symetry/rest/{cid}/projects."""

from gramian_aws.function import endpoint

handler = endpoint("projects.create")
