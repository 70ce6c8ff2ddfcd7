"""prunesim check"""

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from studies.cli.output import Whole
from studies.progress import ProgressLine
from studies.telling import tell
from workloads.errors import UserError

BROKEN = 1  # exit code where a law does not hold
PAGES = Path("docs/validation")


def check(
    what: str = "",
    bundle: Path | None = None,
    /,
    *,
    rtl: Annotated[bool, Parameter(negative="")] = False,
    mask: Path | None = None,
    layers: Whole | None = None,
    groups: Whole | None = None,
    waveform: Path | None = None,
    figure: Path | None = None,
    group: Whole | None = None,
    all_: Annotated[bool, Parameter(name="--all", negative="")] = False,
    out: Path | None = None,
    data: Path | None = None,
    without: Annotated[list[Literal["scalesim"]] | None, Parameter(negative="")] = None,
) -> None:
    """Check that what you made obeys the laws that everything here obeys: a line for each, and exit code 1 if one is
    broken.

    Parameters
    ----------
    what
        A mask bundle (every hash, count and pattern), a record of times (a file or one that ships; how the predictions
        of its GPU compare), an accelerator or a pruning method: one of ours (prunesim ls), of
        an installed package, file.py:Name, or a machine file such as my_chip.toml.
    bundle
        With --rtl: run the masks of its layers.
    rtl
        Instead, run the model's array in RTL (SystemVerilog under Verilator) and compare cycles, multiplications and
        sums: on random masks, or on those given, cut into blocks that the array holds.
    mask
        With --rtl: one .npy mask.
    layers
        With --rtl and a bundle: only so many of its layers.
    groups
        With --rtl and neither: so many random masks (400).
    waveform
        With --rtl: write a VCD of one group.
    figure
        With --rtl: draw the lanes at work in one group above the model's tiles (.svg, .png, .pdf).
    group
        With --waveform or --figure: which (0).
    all_
        Instead, compare every model of prunesim with its twin, closed forms, other programs and published figures, and
        write the validation pages. Takes minutes.
    out
        Folder of the pages (docs/validation). With --rtl: a .csv of every tile.
    data
        With --all: a folder of data that do not ship, for comparisons that say else that they were not run.
    without
        With --all: a comparison to leave out. scalesim is installed from the net on its first run.
    """
    if rtl:
        if all_ or data is not None or without:
            raise UserError("`rtl` checks one model; `all`, `data` and `without` are of the pages")
        from studies.rtl import Wanted, check_rtl

        if not check_rtl(what, Wanted(bundle, mask, layers, groups, waveform, group, out, figure), print):
            sys.exit(BROKEN)
        return
    if bundle is not None or mask is not None or (layers, groups, waveform, group, figure) != (None,) * 5:
        raise UserError("a second bundle, `mask`, `layers`, `groups`, `waveform`, `figure` and `group` are of `rtl`")
    if all_:
        if what:
            raise UserError(f"give either something to check or `all`, not both; it is {what!r}")
        check_everything(out or PAGES, data, without or [])
        return
    if out is not None or data is not None or without:
        raise UserError("`out`, `data` and `without` are of the pages, which `all` writes")
    if not what:
        raise UserError("say what to check: a bundle, an accelerator or a pruning method, such as my_chip.py:MyChip")
    from measurement.published import is_record
    from studies.checking import check_bundle, is_bundle
    from studies.records import check_record

    if is_record(what):
        print(check_record(what))
    elif is_bundle(what):
        print(check_bundle(what, ProgressLine()))
    else:
        print_laws(what)


def print_laws(what: str) -> None:
    from studies.checking import check_laws

    counted: Counter[str] = Counter()
    for result in check_laws(what):
        print(result, flush=True)
        counted[result.status] += 1
    print(f"{what}: " + ", ".join(f"{number} {status}" for status, number in counted.items()))
    if counted["FAILED"]:
        sys.exit(BROKEN)


def check_everything(out: Path, data: Path | None, without: list[Literal["scalesim"]]) -> None:
    from validation.everything import comparisons
    from validation.pages import write
    from workloads.files import check_writable_folder

    check_writable_folder(out)
    tell("takes minutes; each comparison says when it is made")
    found = []
    for each in comparisons(data, "scalesim" not in without):
        found.append(each)
        print(f"{each.model}: {each.source}", file=sys.stderr, flush=True)
    for path in write(found, out):
        print(path)
