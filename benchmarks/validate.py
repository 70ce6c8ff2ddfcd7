"""docs/validation.md: every model beside closed forms, functional twins, binomials, other programs, published figures.

    python benchmarks/validate.py                       # about a minute, and one or two for SCALE-Sim
    python benchmarks/validate.py --without scalesim    # leaves a line where it would be

SCALE-Sim gets an environment of its own on its first run (see scalesim_compare.py), which needs a network. The
functional twins are those of tests/, so pytest and hypothesis must be installed (`make test` does that).
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
if str(REPO) not in sys.path:
    sys.path.insert(0, str(REPO))  # benchmarks and tests are no installed packages

from benchmarks.validation import (  # noqa: E402
    closed_forms,
    expectations,
    headlines,
    programs,
    twins,
    twins_of_formulas,
)
from benchmarks.validation.comparison import Comparison, NotRun  # noqa: E402
from benchmarks.validation.page import page  # noqa: E402


def comparisons(cases: int, scalesim: bool) -> Iterator[Comparison | NotRun]:
    """All of them. cases: random layers on every small machine of a functional twin."""
    for name in twins.NAMES:
        yield closed_forms.compare(name)
        yield twins.compare(name, cases)
        if name == "systolic":
            yield programs.scalesim(scalesim)
    yield closed_forms.vitcod_paper()
    yield twins_of_formulas.vitcod_paper()
    yield twins_of_formulas.attention_paper()
    yield twins_of_formulas.attention()
    yield from (expectation() for expectation in expectations.ALL.values())
    yield from (headline() for headline in headlines.ALL.values())
    yield from programs.attention_log()
    yield twins_of_formulas.dram()
    yield from programs.dram()
    yield programs.energy()


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
