"""prunesim finetune"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from pruning.config import FinetuneConfig
from studies.cli.settings import options
from studies.progress import ProgressLine, warn

if TYPE_CHECKING:
    from pruning.config import FinetuneConfig as Asked
else:
    Asked = options(FinetuneConfig)


def finetune(
    model: str,
    /,
    *,
    masks: Path,
    out: Path,
    asked: Annotated[Asked, Parameter(name="*")] = Asked(),  # noqa: B008
    save_model: Path | None = None,
    save_format: str = "dense",
    dtype: str = "float32",
    device: str = "cpu",
) -> None:
    """Train the weights that pruning left in MODEL, under the masks and on the grids of a bundle. Repeat a killed
    command to continue it.

    Parameters
    ----------
    model
        A model folder, a GGUF file, a hub id such as meta-llama/Llama-2-7b-hf that is on this machine, or a network
        (prunesim ls families).
    masks
        The bundle whose masks, weights and grids it starts from.
    out
        Folder of the trained bundle: the same masks, new weights.
    save_model
        Also write the trained checkpoint to this folder.
    save_format
        dense: ordinary weights with zeros; packed: quantized weights as compressed-tensors pack-quantized.
    dtype
        What the model computes in: float32, bfloat16 (weights are saved in their own type).
    device
        cpu, cuda or cuda:N.
    """
    from pruning.networks import is_network
    from pruning.recovery.plan import make_plan
    from studies.finetune import result_text, run_finetune
    from studies.masks import contents_text
    from studies.prune import open_model
    from workloads.bundle import MaskBundle

    plan = make_plan(asked, model if is_network(model) else "")
    bundle = MaskBundle.open(masks)
    progress = ProgressLine()
    made = run_finetune(open_model(model, dtype, device), bundle, plan, out, save_model, save_format, progress, warn)
    progress.close()
    sys.stderr.write(f"wrote {out}: {contents_text(made)}\n{result_text(made, warn)}\n")
