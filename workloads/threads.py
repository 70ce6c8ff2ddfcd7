"""How many things may run at once. Needs nothing else, so that the command line can check the wish before it starts."""

import os
import re

from workloads.errors import UserError

VARIABLE = "PRUNESIM_THREADS"


def worker_count() -> int:
    """PRUNESIM_THREADS (0 counts as 1), else the cores this process may use. Raises UserError unless it is a whole
    number."""
    asked = os.environ.get(VARIABLE, "").strip()
    if asked:
        if not re.fullmatch(r"[0-9]{1,4}", asked):
            raise UserError(
                f"{VARIABLE}={asked}: the number of threads is a whole number such as 2; correct or unset it"
            )
        return max(1, int(asked))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
