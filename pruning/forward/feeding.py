"""What a model is called with, from a batch of calibration data.

A batch is token ids (batch, seq), or by name the tensors a model takes (pixel_values, input_features, ...). An
encoder-decoder that reads tokens gets the same ids twice: as its input, and one place later, behind its start token, in
its decoder. One that reads sounds or images needs decoder_input_ids in the data.
"""

import inspect
from typing import Any

import torch

from checkpoints.checkpoint import Checkpoint
from checkpoints.families import Kind
from pruning.data.calibration import check_ids
from workloads.errors import UserError

Batch = torch.Tensor | dict[str, torch.Tensor]


def arguments(checkpoint: Checkpoint, batch: Batch) -> dict[str, Any]:
    """The keyword arguments of the model's forward, on its device. Raises UserError for data of another kind than it
    reads."""
    given = batch if isinstance(batch, dict) else {"input_ids": batch}
    main, model = checkpoint.model.main_input_name, checkpoint.model
    if main not in given:
        raise UserError(
            f"{checkpoint.folder}: {type(model).__name__} reads {main}, the data has {', '.join(given)}; give it as a "
            f".npz with an array {main!r}, or use a method without calibration (magnitude)"
        )
    made = {name: value.to(checkpoint.device) for name, value in given.items()}
    made = {name: value.to(model.dtype) if value.is_floating_point() else value for name, value in made.items()}
    if (
        checkpoint.family.kind is Kind.ENCODER_DECODER
        and len(checkpoint.stacks) > 1
        and "decoder_input_ids" not in made
    ):
        if main != "input_ids":
            raise UserError(
                f"{checkpoint.folder}: the decoder of {type(model).__name__} reads tokens; add an array "
                f"'decoder_input_ids' (samples, seq_len) to the .npz with {main!r}"
            )
        made["decoder_input_ids"] = shifted(made["input_ids"], checkpoint.config)
    return made if checkpoint.family.kind is Kind.ENCODER else {"use_cache": False, **made}


def first_sample(data: Batch) -> Batch:
    if isinstance(data, dict):
        return {name: value[:1] for name, value in data.items()}
    return data[:1]


def check_data(checkpoint: Checkpoint, data: Batch, what: str) -> None:
    """Raises UserError for data that the model does not read, and for token ids that it does not know."""
    taken = inspect.signature(type(checkpoint.model).forward).parameters
    given = data if isinstance(data, dict) else {"input_ids": data}
    for name in given:
        if isinstance(data, dict) and name not in taken:
            raise UserError(
                f"{what}: {type(checkpoint.model).__name__} takes no {name!r}; name arrays as its arguments are"
            )
    arguments(checkpoint, first_sample(data))
    for name, ids in given.items():
        if name.endswith("input_ids"):
            if ids.is_floating_point() or ids.ndim != 2:
                raise UserError(f"{what}: {name} are integers (samples, seq_len), not {ids.dtype} {tuple(ids.shape)}")
            check_ids(ids, checkpoint.config, what)


def shifted(ids: torch.Tensor, config: Any) -> torch.Tensor:
    """ids (batch, seq) one place later behind the start token."""
    settings = config.get_text_config(decoder=True)
    names = ("decoder_start_token_id", "bos_token_id", "pad_token_id")
    start = next((n for name in names if (n := getattr(settings, name, None)) is not None), 0)
    return torch.cat([torch.full_like(ids[:, :1], start), ids[:, :-1]], dim=1)


def small_batch(checkpoint: Checkpoint, samples: int, tokens: int, seed: int) -> Batch:
    """Random inputs of the kinds the model reads, to try it on: token ids, images or sounds of the sizes in its config.

    Raises UserError where the config does not say the sizes.
    """
    draw = torch.Generator().manual_seed(seed)
    main, config = checkpoint.model.main_input_name, checkpoint.config
    ids = torch.randint(0, min(config_value(config, "vocab_size", 2), 1000), (samples, tokens), generator=draw)
    if main == "input_ids":
        return ids
    shape = input_shape(checkpoint)
    batch = {main: torch.randn((samples, *shape), generator=draw)}
    return batch if checkpoint.family.kind is Kind.ENCODER else batch | {"decoder_input_ids": ids}


def input_shape(checkpoint: Checkpoint) -> tuple[int, ...]:
    """Of one sample of a model that reads images or sounds. Raises UserError where its config does not say."""
    main, config = checkpoint.model.main_input_name, checkpoint.config
    if main == "pixel_values":
        side = config_value(config, "image_size", 0)
        height, width = side if isinstance(side, list | tuple) else (side, side)
        if height and width:
            return config_value(config, "num_channels", 3), height, width
    if main == "input_features" and config_value(config, "num_mel_bins", 0):
        return config_value(config, "num_mel_bins", 0), 2 * config_value(config, "max_source_positions", 1500)
    if main == "input_values":
        return (16000,)
    raise UserError(
        f"{checkpoint.folder}: {type(checkpoint.model).__name__} reads {main}, whose size its config does not say; it "
        "can only be pruned by a method without calibration (magnitude)"
    )


def config_value(config: Any, name: str, default: Any) -> Any:
    """A setting of the config, or of the first of its parts that has it."""
    parts = [config, *(getattr(config, key, None) for key in config.sub_configs)]
    return next((found for part in parts if (found := getattr(part, name, None)) is not None), default)
