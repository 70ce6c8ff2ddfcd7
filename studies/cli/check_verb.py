"""prunesim check"""

import sys
from collections import Counter

from workloads.errors import UserError

BROKEN = 1  # exit code where a law does not hold


def check(what: str = "", /) -> None:
    """Check that what you made obeys the laws that everything here obeys: a line for each, and exit code 1 if one is broken.

    Parameters
    ----------
    what
        A mask bundle (every hash, count and pattern), an accelerator or a pruning method: one of ours (prunesim ls), of an
        installed package, file.py:Name, or a machine file such as my_chip.toml.
    """
    from studies.checking import check_bundle, check_laws, is_bundle

    if not what:
        raise UserError("say what to check: a bundle, an accelerator or a pruning method, such as my_chip.py:MyChip")
    if is_bundle(what):
        print(check_bundle(what))
        return
    counted: Counter[str] = Counter()
    for result in check_laws(what):
        print(result, flush=True)
        counted[result.status] += 1
    print(f"{what}: " + ", ".join(f"{number} {status}" for status, number in counted.items()))
    if counted["FAILED"]:
        sys.exit(BROKEN)
