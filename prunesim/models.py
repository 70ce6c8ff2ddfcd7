"""Pruned models as transformers models in memory."""

from pathlib import Path
from typing import TYPE_CHECKING

from workloads.arguments import typed

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@typed
def load_pruned(folder: str | Path, *, dtype: str = "", device: str = "cpu") -> "PreTrainedModel":
    """The model in a folder that `prune(save_model=...)` wrote, whole and ready to run or to train on.

    It also reads the folders whose blocks differ in size, which `AutoModelForCausalLM` refuses; of others it gives what
    that gives. `dtype` is "float32", "float16" or "bfloat16", "" for the one of its config. Raises UserError if the
    folder is no model or a file of it is damaged.
    """
    from checkpoints.whole import load_model
    from studies.prune import DTYPES
    from workloads.errors import unknown

    if dtype and dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    return load_model(Path(folder), DTYPES.get(dtype), device)
