"""POST /symetry/rest/{cid}/projects/{pid}/uploads/{upload}/learn."""

from gramian_aws.function import endpoint

handler = endpoint("uploads.learn")
