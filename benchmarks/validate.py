"""docs/validation.md: every model beside closed forms, functional twins, binomials, other programs, published figures.

    python benchmarks/validate.py                       # about a minute, and one or two for SCALE-Sim
    python benchmarks/validate.py --without scalesim    # leaves a line where it would be

SCALE-Sim gets an environment of its own on its first run, which needs a network.
"""

import argparse
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
if str(REPO) not in sys.path:
    sys.path.insert(0, str(REPO))  # benchmarks are no installed package

from validation.everything import comparisons  # noqa: E402
from validation.page import page  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--without", choices=["scalesim"], action="append", default=[], help="leave a comparison out")
    parser.add_argument("--cases", type=int, default=100, help="random layers on every machine of a twin (100)")
    parser.add_argument(
        "--out", type=Path, default=REPO / "docs" / "validation.md", help="the page (docs/validation.md)"
    )
    args = parser.parse_args()
    found = []
    for each in comparisons(args.cases, "scalesim" not in args.without):
        found.append(each)
        print(f"{each.model}: {each.source}", file=sys.stderr)
    args.out.write_text(page(found), encoding="utf-8")
    print(args.out)


if __name__ == "__main__":
    main()
