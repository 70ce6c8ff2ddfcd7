"""GGUF files through transformers' reader (extra `gguf`): the config, and the weights as floats under transformers'
names.

Quantized tensors are dequantized, so all of a file's weights are in memory at once, as floats.
"""

import io
import struct
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from checkpoints.weights import HeldWeights
from workloads.errors import UserError, one_line

# What the gguf package and transformers raise on files that are damaged, cut off or of an unknown architecture.
_UNREADABLE = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError, NotImplementedError,
    OSError, RuntimeError, TypeError, ValueError, struct.error,
)  # fmt: skip


def require_library(file: Path) -> None:
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise UserError(f"{file} is a GGUF file; to read it install the extra: pip install 'prunesim[gguf]'") from None


def gguf_config(file: Path) -> PretrainedConfig:
    """The config that a file's metadata make. Raises UserError if it cannot be read or transformers lacks the
    architecture."""
    require_library(file)
    try:
        config = AutoConfig.from_pretrained(
            str(file.parent), gguf_file=file.name, local_files_only=True, trust_remote_code=False
        )
    except _UNREADABLE as error:
        raise _unreadable(file, error) from None
    config.architectures = None
    return config


def gguf_weights(file: Path, model: PreTrainedModel) -> HeldWeights:
    """The weights of a file by the names of `model`, which is on the meta device.

    Raises UserError if the file is damaged or of an architecture that transformers reads in another way only.
    """
    require_library(file)
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    try:
        with redirect_stderr(io.StringIO()):  # it draws a progress bar of its own
            found: dict[str, Any] = load_gguf_checkpoint(
                str(file), return_tensors=True, model_to_load=model, torch_dtype=torch.float32
            )
    except _UNREADABLE as error:
        raise _unreadable(file, error) from None
    return HeldWeights(found["tensors"])


def _unreadable(file: Path, error: Exception) -> UserError:
    return UserError(f"{file}: this GGUF file cannot be read: {one_line(error)}; give the checkpoint it was made from")
