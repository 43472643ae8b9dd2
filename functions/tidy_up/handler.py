"""Every hour: finish what was interrupted, mend schedules, and tell how old the last good pulse is."""

from gramian_aws.function import background
from gramian_aws.tidying import tidy_up

handler = background(tidy_up)
