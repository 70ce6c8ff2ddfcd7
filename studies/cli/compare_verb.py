"""prunesim compare"""

from pathlib import Path

from studies.cli.output import check_format, emit


def compare(before: Path, after: Path, /, *, format: str = "table", out: Path | None = None) -> None:
    """What moved between two results, by how much, and why: speedups, times, energies and perplexities of every model,
    machine and method that BEFORE and AFTER, folders of runs or files of rows, both have; and what only one has.

    Parameters
    ----------
    before
        A folder of a run or report, or a file of rows.
    after
        Another of the same.
    format
        table (of what moved), json or csv (every line), md.
    out
        Write to this file instead of stdout.
    """
    check_format(format, ("table", "json", "csv", "md"))
    from rich.console import Console

    from reports.comparison import markdown_comparison, print_comparison
    from studies.comparing import moved_between
    from workloads.files import write_text

    moved = moved_between(before, after)
    if format == "table" and out is None:
        print_comparison(moved, Console(soft_wrap=True))
    elif format in ("md", "table"):
        text = markdown_comparison(moved)
        print(text, end="") if out is None else write_text(out, text)
    else:
        emit(moved.assign(feasible=True), format, out, ())
