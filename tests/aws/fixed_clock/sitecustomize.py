"""On the path of a process, it starts that process's clock at FIXED_TIME_S (unix seconds)."""

import os
import time

_real = time.time
_ahead_s = float(os.environ["FIXED_TIME_S"]) - _real()
time.time = lambda: _real() + _ahead_s
