"""POST /symetry/rest/{cid}/fedml/awsinfo."""

from gramian_aws.function import endpoint

handler = endpoint("federation.aws_info")
