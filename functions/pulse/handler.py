"""A due pulse, or one that somebody waits for."""

from gramian_aws.function import background
from gramian_aws.pulses import pulse

handler = background(pulse)
