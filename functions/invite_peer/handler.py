"""POST /symetry/rest/{cid}/fedml/{pid}/getInvitation."""

from gramian_aws.function import endpoint

handler = endpoint("federation.get_invitation")
