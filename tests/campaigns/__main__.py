"""python -m tests.campaigns kill --seed 0 --tries 200
python -m tests.campaigns fuzz --seed 0 --tries 2300

Repeats a campaign and prints tried / survived; exit code 1 if any try did not survive. `--first N --tries 1 --folder F`
repeats one try and leaves its files in F.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.campaigns import fuzz, kill
from tests.campaigns.forked import warm


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("kill", "fuzz"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tries", type=int, default=0, help="default: 200 kills, 2300 inputs")
    parser.add_argument("--jobs", default="", help="only these, separated by commas")
    parser.add_argument("--first", type=int, default=0, help="number of the first try")
    parser.add_argument("--folder", type=Path, help="work here and leave it (default: a temporary folder)")
    parser.add_argument("--verbose", action="store_true", help="print every try")
    given = parser.parse_args()
    warm()
    module = kill if given.kind == "kill" else fuzz
    jobs = tuple(filter(None, given.jobs.split(","))) or tuple(module.JOBS)
    tries = given.tries or (200 if given.kind == "kill" else 2300)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.folder or Path(temporary)) / "campaign"
        began = time.monotonic()
        outcomes = module.campaign(folder, given.seed, range(given.first, given.first + tries), jobs)
        tried, survived = 0, 0
        for what, wrong in outcomes:
            tried += 1
            survived += not wrong
            if wrong or given.verbose:
                print(f"{'LOST' if wrong else 'ok  '} {what}{f' -> {wrong}' if wrong else ''}", flush=True)
    print(f"{given.kind}: {tried} tried, {survived} survived, seed {given.seed}, {time.monotonic() - began:.0f} s")
    return 0 if survived == tried else 1


if __name__ == "__main__":
    sys.exit(main())
