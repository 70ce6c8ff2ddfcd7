"""A checkpoint's whole model in memory."""

from pathlib import Path

import torch
from transformers import GenerationConfig, PreTrainedModel

from checkpoints.checkpoint import Checkpoint
from checkpoints.model_folder import find_model


def load_model(folder: Path, dtype: torch.dtype | None = None, device: str = "cpu") -> PreTrainedModel:
    """In eval mode, ready to generate, blocks in the sizes that pruning left. Raises UserError as Checkpoint, and if a
    parameter is missing."""
    checkpoint = Checkpoint(find_model(str(folder)), dtype, device)
    checkpoint.load_rest()
    for number in range(len(checkpoint.blocks)):
        checkpoint.load_block(number)
    model = checkpoint.model
    model.config.use_cache = getattr(checkpoint.config, "use_cache", True)
    if (checkpoint.folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(checkpoint.folder, local_files_only=True)
    return model
