"""POST /symetry/rest/{cid}/fedml/create."""

from gramian_aws.function import endpoint

handler = endpoint("federation.create")
