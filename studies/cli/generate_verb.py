"""prunesim generate"""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from studies.cli.output import Whole
from studies.progress import ProgressLine
from workloads.selectors import Selection


def generate(
    *,
    model: str,
    out: Path,
    pattern: str = "unstructured",
    density: float | None = None,
    role_density: Annotated[list[str] | None, Parameter(negative="")] = None,
    only: Annotated[list[str] | None, Parameter(negative="")] = None,
    skip: Annotated[list[str] | None, Parameter(negative="")] = None,
    fallback: str = "refuse",
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
    only
        Layers to mask: roles (q or gate,up), blocks:0-15, blocks:2-, names (*.mlp.*). Commas widen, another --only
        narrows. The others keep every weight.
    skip
        Layers to leave dense, in the same words.
    seed
        Of the random choices.
    fallback
        Where N:M does not divide a matrix's inputs: refuse the model; unstructured at the same density; or skip the
        matrix.
    """
    from studies.masks import contents_text, generated, parse_values, write_bundle
    from studies.settings import density_of

    selection = Selection(tuple(only or ()), tuple(skip or ()))
    made = generated(
        model,
        pattern,
        density_of(pattern, density),
        seed,
        parse_values(role_density or [], "q=0.4"),
        selection,
        fallback,
    )
    progress = ProgressLine()
    bundle = write_bundle(out, made.header, made.count, made.masks, progress, made.patterns)
    progress.close()
    sys.stderr.write(f"wrote {out}: {contents_text(bundle)}\n")
