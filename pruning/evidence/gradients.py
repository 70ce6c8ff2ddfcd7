"""Weight gradients of the whole model's loss, block by block, so that a model larger than memory can be differentiated.

For every calibration sequence k the gradient g_k of its mean token cross-entropy (labels = inputs) with respect to
every prunable matrix of the dense model; what is kept are sums over the sequences, "l1" sum_k |g_k|, "l2"
sqrt(sum_k g_k^2), "sum" sum_k g_k, in float32.

Forwards, the hidden states that enter each block go to disk. Backwards, the last block first, each block is run again
on them, differentiated one sequence at a time, and hands its inputs' gradients to the block before it. In memory: one
block, its sums, and one block's gradients a thread. On disk while the run is unfinished: the hidden states of all
blocks, and 4 bytes a weight and sum.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn

from checkpoints.discovery import LinearRef
from pruning.forward.hidden_states import Progress, read_tensors, write_tensors
from pruning.forward.walk import Walk
from pruning.parallel import ordered_map
from workloads.errors import UserError

FLOAT16_LOSS_SCALE = 2.0**10
OF_ONE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "l1": torch.abs, "l2": torch.square, "sum": torch.Tensor.detach,
}  # fmt: skip


def gradient_file(folder: Path, number: int) -> Path:
    return folder / f"gradients-{number:05d}.safetensors"


def states_file(folder: Path, number: int) -> Path:
    """The inputs of block `number`, until it is differentiated."""
    return folder / f"states-{number:05d}.safetensors"


def upstream_file(folder: Path, number: int) -> Path:
    """The loss's gradients with respect to the inputs of block `number`, for the block before it."""
    return folder / f"upstream-{number:05d}.safetensors"


def write_gradients(
    model: Walk, refs: list[list[LinearRef]], ids: torch.Tensor, which: Sequence[str], folder: Path,
    progress: Progress,
) -> None:  # fmt: skip
    """Writes one gradient file a block, tensors SUM|LAYER (out, in) float32, unless they are there already.

    ids (samples, seq) token ids; which: the sums, "l1", "l2" or "sum". Raises UserError for sequences of one token and
    gradients that are not finite.
    """
    if not model.causal:
        raise UserError(
            f"{model.checkpoint.folder}: gradients are those of the next tokens' loss, which a model that is not a "
            "causal language model does not have; use another method"
        )
    if ids.shape[1] < 2:
        raise UserError("gradients need calibration sequences of at least 2 tokens; raise `seq_len`")
    count = len(model.blocks)
    if gradient_file(folder, 0).exists():
        drop_states(folder, 0, count)
        return
    model.embed(ids[:1])  # from now on blocks can be run on single sequences
    done = [number for number in range(count) if gradient_file(folder, number).exists()]
    if not done:
        upstream = _last_gradients(model, ids, _forward(model, ids, folder, progress))
    else:
        upstream = list(read_tensors(upstream_file(folder, done[0])).values())
        drop_states(folder, done[0], count, but_upstream=done[0])
    for number in reversed(range(done[0] if done else count)):
        progress("gradients", 2 * count - number - 1, 2 * count)
        states = list(read_tensors(states_file(folder, number)).values())
        block = model.checkpoint.load_block(number)
        sums, upstream = _differentiate(model, block, number, refs[number], states, upstream, which)
        model.checkpoint.release(block)
        write_tensors(upstream_file(folder, number), {f"{k:06d}": gradient for k, gradient in enumerate(upstream)})
        write_tensors(gradient_file(folder, number), sums)  # from here on the block is done
        drop_states(folder, number, count, but_upstream=number)
    drop_states(folder, 0, count)


def drop_states(folder: Path, first: int, count: int, but_upstream: int | None = None) -> None:
    """Deletes what blocks from `first` on left on disk; a killed run may not have come to it."""
    for number in range(first, count):
        states_file(folder, number).unlink(missing_ok=True)
        if number != but_upstream:
            upstream_file(folder, number).unlink(missing_ok=True)


def read_gradients(folder: Path, number: int) -> dict[str, dict[str, torch.Tensor]]:
    """The sums of one block: by which sum it is, then by layer name."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    for key, total in read_tensors(gradient_file(folder, number)).items():
        which, _, name = key.partition("|")
        found.setdefault(which, {})[name] = total
    return found


def _forward(model: Walk, ids: torch.Tensor, folder: Path, progress: Progress) -> list[torch.Tensor]:
    """The last block's outputs, (1, seq, hidden) a sequence; every block's inputs are on disk afterwards."""
    hidden = [model.embed(sequence) for sequence in ids.split(1)]
    for number in range(len(model.blocks)):
        progress("gradients", number, 2 * len(model.blocks))
        write_tensors(states_file(folder, number), {f"{k:06d}": states for k, states in enumerate(hidden)})
        block = model.checkpoint.load_block(number)
        hidden = list(ordered_map(partial(model.run, number), hidden))
        model.checkpoint.release(block)
    return hidden


def loss_scale(model: Walk) -> float:
    return FLOAT16_LOSS_SCALE if model.checkpoint.dtype == torch.float16 else 1.0


def _last_gradients(model: Walk, ids: torch.Tensor, hidden: list[torch.Tensor]) -> list[torch.Tensor]:
    """Gradients of each sequence's (scaled) loss with respect to the last block's outputs."""
    scale = loss_scale(model)

    def task(pair: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        sequence, states = pair
        states = states.detach().requires_grad_()
        with torch.enable_grad():
            logits = model.logits(sequence, states)
            loss = nn.functional.cross_entropy(logits[0, :-1].float(), sequence[0, 1:])
            (gradient,) = torch.autograd.grad(loss * scale, states)
        return gradient

    with model.heads():
        return list(ordered_map(task, zip(ids.split(1), hidden, strict=True), large=True))


def _differentiate(
    model: Walk,
    block: nn.Module,
    number: int,
    refs: list[LinearRef],
    states: list[torch.Tensor],
    upstream: list[torch.Tensor],
    which: Sequence[str],
) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
    """(sums as they are written, gradients with respect to the block's inputs)."""
    places = list(dict.fromkeys((ref.module_path, ref.parameter) for ref in refs))
    parameters = [getattr(block.get_submodule(path), name).requires_grad_() for path, name in places]

    def task(pair: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        entering = pair[0].detach().requires_grad_()
        with torch.enable_grad():
            output = model.run(number, entering)
            return torch.autograd.grad(output, [entering, *parameters], pair[1], materialize_grads=True)

    scale = loss_scale(model)
    sums = no_sums(refs, which, model.device)
    below: list[torch.Tensor] = []
    for entering, *gradients in ordered_map(task, zip(states, upstream, strict=True), large=True):
        below.append(entering)
        of_place = dict(zip(places, gradients, strict=True))
        add_to(sums, refs, which, of_place, scale)
    return finished(model, sums), below


def no_sums(refs: Sequence[LinearRef], which: Sequence[str], device: torch.device) -> dict[str, torch.Tensor]:
    """Zeros by SUM|LAYER."""
    return {f"{each}|{ref.layer.name}": torch.zeros(ref.layer.shape, device=device) for each in which for ref in refs}


def add_to(
    sums: dict[str, torch.Tensor], refs: Sequence[LinearRef], which: Sequence[str],
    of_place: Mapping[tuple[str, str], torch.Tensor], scale: float,
) -> None:  # fmt: skip
    """What one sample's (scaled) gradients of parameters, by module and name, add."""
    for ref in refs:
        gradient = ref.view(of_place[ref.module_path, ref.parameter]).float() / scale
        for each in which:
            sums[f"{each}|{ref.layer.name}"] += OF_ONE[each](gradient)


def finished(model: Walk, sums: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As they are written. Raises UserError for what is not finite."""
    for key, total in sums.items():
        if not bool(torch.isfinite(total).all()):
            raise UserError(
                f"{key.partition('|')[2]}: a gradient is NaN or Inf in "
                f"{str(model.checkpoint.dtype).removeprefix('torch.')}; use `dtype=float32` or bfloat16"
            )
    return {key: (total.sqrt() if key.startswith("l2|") else total).cpu() for key, total in sums.items()}
