"""Every test, and every process a test starts, computes on one thread: tiny models are slower on more, and the workers
of a parallel run would fight.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"
