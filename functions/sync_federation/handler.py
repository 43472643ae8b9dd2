"""GET /symetry/rest/{cid}/fedml/{pid}/fullSyncRequest."""

from gramian_aws.function import endpoint

handler = endpoint("federation.full_sync")
