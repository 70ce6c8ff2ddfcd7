"""Hidden states: in batches while a block runs, on disk for a killed run to go on with."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from workloads.errors import UserError, one_line
from workloads.files import replacing

BATCH_TOKENS = 4096  # tokens a block sees at once
BATCH_SAMPLES = 8  # images or sounds
Progress = Callable[[str, int, int], None]  # (what, done, of)
Streams = dict[str, list[torch.Tensor]]  # "inputs" and, in some runs, "dense": batches (batch, seq, hidden)


def micro_batches(ids: Any) -> list[Any]:
    """(batch, seq) pieces of about BATCH_TOKENS tokens; of other inputs, tensors by name, pieces of BATCH_SAMPLES
    samples."""
    if isinstance(ids, dict):
        pieces = {name: value.split(BATCH_SAMPLES) for name, value in ids.items()}
        return [dict(zip(pieces, piece, strict=True)) for piece in zip(*pieces.values(), strict=True)]
    return list(ids.split(max(1, BATCH_TOKENS // ids.shape[1])))


def hidden_file(folder: Path, number: int) -> Path:
    """Where the hidden states that enter block `number` wait while the run is unfinished."""
    return folder / f"hidden-{number:05d}.safetensors"


def write_hidden(folder: Path, number: int, streams: Streams) -> None:
    """A stream that is the inputs themselves, as long as nothing was pruned, is not written twice."""
    own = {name: batches for name, batches in streams.items() if name == "inputs" or batches is not streams["inputs"]}
    write_tensors(
        hidden_file(folder, number),
        {f"{name}.{i:06d}": batch for name, batches in own.items() for i, batch in enumerate(batches)},
    )


def read_hidden(folder: Path, number: int, names: Iterable[str]) -> Streams:
    """The streams `names`; those that were not written are the inputs. Raises UserError if they are missing or
    damaged."""
    found: Streams = {}
    for key, batch in read_tensors(hidden_file(folder, number)).items():
        found.setdefault(key.partition(".")[0], []).append(batch)
    return {name: found.get(name, found["inputs"]) for name in names}


def write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """With a hash of the content and the file's name, which `read_tensors` checks."""
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with replacing(path) as part:
        save_file(whole, part, metadata={"sha256": tensors_sha256(path.name, whole)})


def tensors_sha256(name: str, tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(name.encode())
    for key, tensor in sorted(tensors.items()):
        digest.update(f"{key}:{tensor.dtype}:{tuple(tensor.shape)}:".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).cpu().numpy().data)
    return digest.hexdigest()


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """In the order of their names. Raises UserError if the file of an unfinished run is missing or damaged."""
    if not path.exists():
        raise UserError(f"{path.parent}: cannot continue, {path.name} is missing; delete it and start again")
    try:
        with safe_open(path, framework="pt") as reader:
            tensors = {name: reader.get_tensor(name) for name in sorted(reader.keys())}
            whole = (reader.metadata() or {}).get("sha256") == tensors_sha256(path.name, tensors)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path.parent}: cannot continue ({one_line(error)}); delete it and start again") from None
    if not whole:
        raise UserError(
            f"{path.parent}: cannot continue, {path.name} is damaged (its hash differs); delete it and start again"
        )
    return tensors
