"""What is refused before anything is built: sizes no model has, and files that are not where they seem to be."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workloads.errors import UserError

MAX_LAYERS = 4_096  # the deepest published language models have about 130
MAX_EXPERTS = 16_384  # the widest published mixtures have about 2,048
MAX_FEATURES = 1 << 24  # outputs or inputs of one matrix; vocabularies have up to 300,000
MAX_SEED = (1 << 63) - 1  # result rows keep seeds as 64-bit whole numbers


def check_seed(seed: int, what: str = "seed") -> int:
    """Raises UserError unless 0 <= seed < 2^63."""
    if not 0 <= seed <= MAX_SEED:
        raise UserError(f"{what} is a whole number from 0 to {MAX_SEED}, not {shortened(seed)}")
    return seed


def check_config(config: Mapping[str, Any], where: object) -> None:
    """Raises UserError for a config whose counts of layers or experts would take hours to build, or whose sizes no
    matrix has.

    Values of another kind are left for transformers to refuse.
    """
    for key, value in _whole_numbers(config):
        name = key.rpartition(".")[2]
        most = _limit_of(name)
        if most is not None and value > most:
            raise UserError(f"{where}: {key} is {shortened(value)}; at most {most:,} are built. Correct the config")
        if most == MAX_FEATURES and value == 0 and name in ("hidden_size", "n_embd", "d_model"):
            raise UserError(f"{where}: {key} is 0, so its matrices would be empty. Correct the config")


def check_links(folder: Path) -> None:
    """Raises UserError where a file of a model folder is a link that leads out of it, except into the blobs of the hub
    cache that the folder is a snapshot of."""
    inside = folder.resolve()
    blobs = inside.parent.parent / "blobs"
    for file in sorted(folder.iterdir()):
        if file.is_symlink():
            try:
                target = file.resolve()
            except (OSError, RuntimeError):  # a link that leads to itself
                raise UserError(f"{file} is a link that leads nowhere; put the file itself there") from None
            if not target.is_relative_to(inside) and target.parent != blobs:
                raise UserError(
                    f"{file} is a link that leads out of its folder, to {target}; put the file itself there, or give "
                    "the folder it lies in"
                )


def shortened(value: int) -> str:
    """A whole number as a person can read it: beyond 20 digits only how many."""
    return f"{value:,}" if abs(value) < 10**20 else f"a number beyond 10^{(abs(value).bit_length() - 1) * 3 // 10}"


def _limit_of(name: str) -> int | None:
    if name.startswith(("num_", "n_", "decoder_", "encoder_")) or name.endswith("_layers"):
        if "layer" in name:
            return MAX_LAYERS
        if "expert" in name:
            return MAX_EXPERTS
    if name.endswith(("_size", "_dim", "_ffn")) or name in (
        "n_embd",
        "n_inner",
        "d_model",
        "d_ff",
        "num_attention_heads",
    ):
        return MAX_FEATURES
    return None


def _whole_numbers(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _whole_numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int) and not isinstance(value, bool):
            yield f"{prefix}{key}", value
