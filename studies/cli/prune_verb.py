"""prunesim prune"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from pruning.config import CalibrationConfig, PruneConfig
from studies.cli.settings import options
from studies.progress import ProgressLine, warn
from studies.speed.asked import SpeedConfig
from workloads.errors import UserError

if TYPE_CHECKING:
    from pruning.config import CalibrationConfig as Data
    from pruning.config import PruneConfig as Asked
    from studies.speed.asked import SpeedConfig as Speed
else:
    Asked, Data, Speed = options(PruneConfig), options(CalibrationConfig), options(SpeedConfig)


def prune(
    model: str,
    /,
    *,
    out: Path,
    asked: Annotated[Asked, Parameter(name="*")] = Asked(),  # noqa: B008
    data: Annotated[Data, Parameter(name="*")] = Data(),  # noqa: B008
    speed: Annotated[Speed, Parameter(name="*")] = Speed(),  # noqa: B008
    save_model: Path | None = None,
    save_format: str = "dense",
    dtype: str = "float32",
    device: str = "cpu",
    dry_run: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Prune MODEL (a folder, a hub id or a network, prunesim ls families) and write its masks to --out. Repeat a killed
    command to continue it.

    Parameters
    ----------
    model
        A model folder, a GGUF file, a hub id such as meta-llama/Llama-2-7b-hf, or a network (prunesim ls families).
    out
        Folder of the mask bundle.
    save_model
        Also write the pruned checkpoint to this folder.
    save_format
        dense: ordinary weights with zeros, of structured pruning what is left, of factors what they make; padded: what
        is left, all blocks as wide as the widest; factored: the factors, for ps.load_pruned; packed: quantized weights
        as compressed-tensors pack-quantized.
    dtype
        What the model computes in: float32, float16, bfloat16 (weights are saved in their own type).
    device
        cpu, cuda or cuda:N.
    dry_run
        Only estimate memory, disk and time.
    """
    from checkpoints.checkpoint import Checkpoint
    from pruning.families import family_of
    from pruning.saving.sizes import sizes
    from studies.ahead import tell_prune
    from studies.masks import contents_text
    from studies.prune import open_checkpoint, open_model, print_estimate, recipe_for, run_prune

    progress = ProgressLine()
    speed.check()
    if speed.speedup is not None:
        from studies.speed.meet import Meeting  # machines, which nothing else here needs

        if dry_run or save_model is not None:
            raise UserError("`speedup` tries masks until one is fast enough; leave `dry_run` and `save_model` out")
        wanted = asked if asked.method is not None else replace(asked, method="wanda")
        meeting = Meeting(partial(open_checkpoint, model, dtype, device), model, wanted, data, speed, progress, warn)
        bundle, met = meeting.run(out)
        progress.close()
        sys.stderr.write("\n".join([f"wrote {out}: {contents_text(bundle)}", *met.lines, ""]))
        return
    if speed.cost is not None:
        from studies.speed.priced import priced_recipe, spent_by

        recipe = priced_recipe(model, open_checkpoint(model, dtype, device), asked, data, speed)
        checkpoint = open_model(model, dtype, device)
    else:
        checkpoint = open_model(model, dtype, device)
        recipe = recipe_for(model, checkpoint, asked, data)
    if dry_run:
        print_estimate(checkpoint, recipe)
        return
    covered = family_of(checkpoint).covered(
        checkpoint
    )  # before the run takes the model apart: a tied head is then another tensor
    tell_prune(checkpoint, recipe, out)
    bundle = run_prune(checkpoint, recipe, out, save_model, save_format, progress, warn)
    progress.close()
    sys.stderr.write(f"wrote {out}: {contents_text(bundle)}\n{covered}\n")
    if speed.cost is not None:
        spent = spent_by(recipe, bundle, speed)
        sys.stderr.write(f"{spent.line}\n")
        if spent.excess:
            warn(spent.excess)
    if bundle.is_smaller and isinstance(checkpoint, Checkpoint):
        sys.stderr.write(f"{sizes(open_checkpoint(model, dtype), bundle).line}\n")
