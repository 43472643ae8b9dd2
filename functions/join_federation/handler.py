"""POST /symetry/rest/{cid}/fedml/createJoin."""

from gramian_aws.function import endpoint

handler = endpoint("federation.create_join")
