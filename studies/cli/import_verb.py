"""prunesim import"""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from studies.progress import ProgressLine, warn


def import_(
    source: Path,
    /,
    *,
    out: Path,
    model: str = "",
    model_id: str = "",
    label: str = "",
    pattern: str = "",
    names: str = "",
    pruned_is_one: Annotated[bool | None, Parameter(negative="--kept-is-one")] = None,
    transposed: Annotated[bool, Parameter(negative="")] = False,
    allow_dense: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Make a mask bundle of SOURCE: masks as .npy or .npz arrays, safetensors or torch files (.pt), one or a folder of
    them; or a checkpoint whose weights hold zeros, packed or not. What a file is, its content says.

    Parameters
    ----------
    source
        A file or a folder of masks, or a checkpoint that holds zeros.
    out
        Folder of the mask bundle.
    model
        The model the masks are of: a catalog name (prunesim ls models), a config.json, or a model folder. Names and
        shapes are checked against it.
    model_id
        Name of the model to record (default: that of --model, or the source's name).
    label
        Name of the method, as reports show it.
    pattern
        What the masks are said to follow, N:M such as 2:4 or unstructured; checked. Found out unless given.
    names
        Whose masks they are, where their names do not say it: 'l{block}_{role}' for names like l0_q_proj, or a .toml or
        .json file of "their pattern" = "layer", such as "blk.{block}.ffn_up" = "model.layers.{block}.mlp.up_proj".
    pruned_is_one
        1 (True) stands for pruned; --kept-is-one says that it does not. Without either 1 is kept, with a warning unless
        the masks themselves tell.
    transposed
        The masks are (in_features, out_features).
    allow_dense
        Take masks that prune nothing.
    """
    from studies.importing import ImportOptions, imported
    from studies.masks import contents_text, totals_text, write_bundle

    options = ImportOptions(model, model_id, label, pattern, names, pruned_is_one, transposed, allow_dense)
    progress = ProgressLine()
    made = imported(source, options, progress)
    bundle = write_bundle(out, made.header, len(made.patterns), made.masks, progress, made.patterns, made.grids)
    progress.close()
    for remark in made.remarks:
        warn(remark)
    sys.stderr.write(f"wrote {out}: {contents_text(bundle)}, {bundle.header.pattern}; {totals_text(bundle)}\n")
