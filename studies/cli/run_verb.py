"""prunesim run"""

from pathlib import Path


def run(study: Path, /, *, out: Path | None = None) -> None:
    """Run a study file; steps whose inputs did not change are skipped.

    Parameters
    ----------
    out
        Folder of the results (default: the study's `out`, else out/NAME).
    """
    from studies.executor import run_study
    from studies.study import read_study

    run_study(read_study(study), out)
