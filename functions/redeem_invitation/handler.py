"""POST /symetry/rest/{cid}/fedml/{pid}/createPolicies."""

from gramian_aws.function import endpoint

handler = endpoint("federation.create_policies")
