"""POST /symetry/rest/{cid}/fedml/{pid}/awsinfo."""

from gramian_aws.function import endpoint

handler = endpoint("federation.aws_info_of_project")
