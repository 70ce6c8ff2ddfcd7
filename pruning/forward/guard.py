"""Whether running a model block by block gives what transformers' own forward gives: one short pass, compared block by
block.

The model's forward runs as it is, except that each block is loaded when its turn comes. Every block then also runs the
way pruning and evaluation run it, on the same hidden states; what enters it must be what the block before it returned,
and the last step must give the model's own output. So a family whose model works on hidden states between its blocks,
hands values from one block to another, or reads tokens inside a block is told before anything is made with it. One read
of the weights, once a process.
"""

from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel

from checkpoints.checkpoint import Checkpoint
from pruning.forward.calls import BlockCall, first_output, read_call
from pruning.forward.feeding import arguments, small_batch
from pruning.parallel import one_thread_per_operation
from workloads.errors import UserError, one_line

TOKENS = 8
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8}  # of the largest value; half precision: 0.02
_checked: dict[tuple[Any, ...], bool] = {}


class BlockByBlock(Protocol):
    """What is compared with the model's own forward: pruning.forward.blockwise.BlockwiseModel."""

    checkpoint: Checkpoint
    model: PreTrainedModel
    blocks: Any
    starts: list[int]

    def stack_of(self, number: int) -> int: ...
    def embed(self, batch: Any) -> torch.Tensor: ...
    def packed(self, hidden: torch.Tensor, call: BlockCall) -> torch.Tensor: ...
    def run(self, number: int, hidden: torch.Tensor) -> torch.Tensor: ...
    def advance(self, number: int, batch: Any, hidden: torch.Tensor) -> torch.Tensor: ...
    def heads(self) -> AbstractContextManager[None]: ...
    def logits(self, batch: Any, hidden: torch.Tensor) -> torch.Tensor: ...
    def unfit(self, reason: str) -> UserError: ...


@torch.no_grad()
def check_model(model: BlockByBlock) -> bool:
    """Whether no token of the model sees a later one. Raises UserError for a model that cannot be run block by
    block."""
    checkpoint = model.checkpoint
    files = tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in checkpoint.files)
    key = (files, str(checkpoint.model.dtype), str(checkpoint.device), type(checkpoint.model))
    batch = small_batch(checkpoint, 2, TOKENS, 0)
    if isinstance(batch, torch.Tensor):
        batch[1, :-1] = batch[0, :-1]
        batch[1, -1] = (batch[0, -1] + 1) % max(2, int(batch.max()) + 1)
    try:
        other = model.embed(small_batch(checkpoint, 2, TOKENS, 1))
        first = model.embed(batch)
        assert first.shape == other.shape
        if key not in _checked:
            with one_thread_per_operation():
                _checked[key] = _Comparison(model, batch, first).run()
    except UserError:
        raise
    except Exception as error:  # anything may come out of a model that is not run as it expects
        raise model.unfit(f"do not run on their own ({one_line(error)})") from None
    return _checked[key]


class _Comparison:
    def __init__(self, model: BlockByBlock, batch: Any, first: torch.Tensor):
        self.model = model
        self.batch = batch
        self.first = first
        self.before: torch.Tensor | None = None  # what the block before this one returned
        self.entered: dict[int, torch.Tensor] = {}  # by the first block of a stack
        self.ends: dict[int, torch.Tensor] = {}  # by stack

    def run(self) -> bool:
        """Whether the model is causal."""
        model = self.model
        for number, block in enumerate(model.blocks):
            block.forward = self._compared(number)  # type: ignore[assignment]
        try:
            output = first_output(model.model(**arguments(model.checkpoint, self.batch)))
        finally:
            for block in model.blocks:
                vars(block).pop("forward", None)
                model.checkpoint.release(block)
        last = len(model.starts) - 1
        for stack in range(last):
            start = model.starts[stack + 1]
            entering = model.advance(start, self.batch, self.ends[stack])
            self._same(entering, self.entered[start], "begin elsewhere in the decoder")
        with model.heads():
            self._same(model.logits(self.batch, self.ends[last]), output, "are not the last to work on hidden states")
        return output.ndim == 3 and self._near(output[0, :-1], output[1, :-1])

    def _compared(self, number: int) -> Any:
        model, block = self.model, self.model.blocks[number]
        stack = model.stack_of(number)

        def forward(*args: Any, **kwargs: Any) -> Any:
            hidden, call = read_call(block, args, kwargs)
            entering = model.packed(hidden, call)
            if number in model.starts:
                self.entered[number] = entering
            else:
                self._same(hidden, self.before, "do not hand hidden states to each other unchanged")
            if number == 0:
                self._same(self.first, entering, "do not begin with the hidden states of the embedding")
            model.checkpoint.load_block(number)
            output = type(block).forward(block, *args, **kwargs)
            del block.forward
            ours = model.run(number, entering)
            model.checkpoint.release(block)
            self.before = output[0] if isinstance(output, tuple | list) else output
            assert self.before is not None
            self._same(ours[:, : hidden.shape[1]], self.before, "take more than hidden states")
            self.ends[stack] = ours
            return output

        return forward

    def _same(self, ours: torch.Tensor, wanted: torch.Tensor | None, reason: str) -> None:
        if wanted is None or not self._near(ours, wanted):
            raise self.model.unfit(reason)

    def _near(self, one: torch.Tensor, other: torch.Tensor) -> bool:
        if one.shape != other.shape:
            return False
        one, other = one.float().cpu(), other.float().cpu()
        if not bool(torch.isfinite(other).all()):  # overflown weights or activations: another check names them
            return bool((torch.isfinite(one) == torch.isfinite(other)).all())
        allowed = TOLERANCE.get(self.model.model.dtype, 0.02) * float(other.abs().max())
        return bool((one - other).abs().max() <= allowed)
