"""prunesim run"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def run(
    study: Path,
    /,
    *,
    out: Path | None = None,
    fresh: Annotated[bool, Parameter(negative="")] = False,
    workers: int | None = None,
) -> None:
    """Run a study file; steps whose inputs did not change are skipped.

    Parameters
    ----------
    study
        A TOML file that says what is run (docs/studies.md), such as examples/demo.toml.
    out
        Folder of the results (default: the study's `out`, else out/NAME).
    fresh
        Gather the masks' statistics and count cycles and times anew; masks and perplexities stay.
    workers
        Workers that make the results side by side (default: the study's [executor], else 1), by itself processes, each
        of which prunes in memory of its own. Results do not depend on it.
    """
    from studies.running.study_run import run_study
    from studies.study import read_study

    run_study(read_study(study), out, fresh, workers)
