"""prunesim generate"""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from studies.cli.output import Whole
from studies.progress import ProgressLine


def generate(
    *,
    model: str,
    out: Path,
    pattern: str = "unstructured",
    density: float | None = None,
    role_density: Annotated[list[str] | None, Parameter(negative="")] = None,
    seed: Whole = 0,
) -> None:
    """Make a bundle of seeded masks for every linear of a model, from its config alone.

    Parameters
    ----------
    model
        A catalog name (prunesim ls models), a config.json, or a model folder.
    out
        Folder of the mask bundle.
    pattern
        unstructured, block, row-skewed, column-skewed, or N:M such as 2:4.
    density
        Share kept, in (0, 1] (default 0.5). Left out with N:M, which fixes it.
    role_density
        ROLE=DENSITY for roles that differ, e.g. --role-density q=0.4.
    """
    from studies.masks import generated, parse_values, write_bundle
    from studies.settings import density_of

    header, count, masks = generated(
        model, pattern, density_of(pattern, density), seed, parse_values(role_density or [])
    )
    progress = ProgressLine()
    bundle = write_bundle(out, header, count, masks, progress)
    progress.close()
    sys.stderr.write(f"wrote {out}: {len(bundle)} layers, sparsity {bundle.sparsity:.4f}\n")
