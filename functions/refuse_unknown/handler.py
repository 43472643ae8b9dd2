"""Whatever no route of the API fits."""

from gramian_aws.function import no_endpoint

handler = no_endpoint()
