"""Runs a model one block at a time, so that a model larger than memory can be pruned and evaluated.

The model's own forward is always what runs: to embed tokens its blocks are replaced by recorders, which note the
arguments each block is called with and pass the hidden states through; to get logits the last recorder hands over the
hidden states computed elsewhere. So masks, positions and caps of every family come from the model itself, never from
arguments built by hand. What blocks return besides hidden states (T5's position biases) is what the first block of a
stack really returns.

Between the two stacks of an encoder-decoder `advance` takes the hidden states over. Where every block also reads states
that none changes (a decoder those of the encoder, Zamba2's blocks the embedding), these are carried behind its own
along the sequence.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import LinearRef
from checkpoints.families import Kind
from pruning.forward.calls import BlockCall, first_output, read_call, same_call
from pruning.forward.feeding import Batch, arguments
from pruning.forward.guard import check_model
from pruning.parallel import one_thread_per_operation, sequences_at_once
from workloads.errors import UserError


@dataclass
class _Pass(threading.local):
    """What the recorders of one forward pass note and hand over, by stack; one per thread."""

    calls: dict[int, BlockCall] = field(default_factory=dict)
    entering: dict[int, torch.Tensor] = field(default_factory=dict)
    leaving: dict[int, torch.Tensor] = field(default_factory=dict)
    stop_at: int | None = None  # the stack at whose first block the pass may end

    def begin(self, leaving: dict[int, torch.Tensor] | None = None, stop_at: int | None = None) -> None:
        self.calls, self.entering, self.leaving, self.stop_at = {}, {}, leaving or {}, stop_at


class _Stop(Exception):
    """Ends a forward pass when nothing behind it is wanted."""


Shape = tuple[int, ...]


class BlockwiseModel:
    """`embed` tokens, `run` block after block (`advance` between stacks), take `logits`; blocks are loaded by
    `checkpoint.load_block`. `causal` says whether no token sees a later one."""

    def __init__(self, checkpoint: Checkpoint):
        """Raises UserError for models that do not run their blocks once each, in order, on hidden states alone."""
        self.checkpoint = checkpoint
        self.model = checkpoint.model
        self.blocks = checkpoint.blocks
        self.device = checkpoint.device
        lengths = [len(stack.blocks) for stack in checkpoint.stacks]
        self.starts = [sum(lengths[:n]) for n in range(len(lengths))]
        self.lasts = [start + length - 1 for start, length in zip(self.starts, lengths, strict=True)]
        checkpoint.load_rest()
        self._pass = _Pass()
        self._tails: dict[tuple[int, Shape], tuple[Any, ...] | None] = {}  # None: blocks return a tensor, not a tuple
        self._calls: dict[tuple[int, Shape], dict[int, BlockCall]] = {}
        self._own: dict[tuple[int, int], int] = {}  # (stack, packed states) -> how many of them are its own
        with checkpoint.as_stored():
            self.causal = check_model(self) and checkpoint.family.kind is Kind.CAUSAL

    def refs(self, number: int) -> list[LinearRef]:
        """The prunable matrices of a block."""
        return self.checkpoint.block_refs(number)

    def stack_of(self, number: int) -> int:
        return max(stack for stack, start in enumerate(self.starts) if start <= number)

    def embed(self, batch: Batch) -> torch.Tensor:
        """Hidden states (batch, seq, hidden) that enter block 0, for token ids (batch, seq) or what else the model
        reads. Tokens run in pieces that stay in the cache, here and in `run` and `advance`.

        Raises UserError for models whose blocks depend on the tokens by more than hidden states.
        """
        return torch.cat([self._embed(piece) for piece in self._pieces(batch)])

    def _pieces(self, batch: Batch) -> list[Any]:
        if not isinstance(batch, torch.Tensor):
            return [batch]
        return list(batch.split(sequences_at_once(self.device, batch.shape[1])))

    def _embed(self, batch: Batch) -> torch.Tensor:
        self._pass.begin()
        with self._first_blocks(), self._recording(), one_thread_per_operation(), torch.no_grad(), suppress(_Stop):
            self.model(**arguments(self.checkpoint, batch))
        first = self._pass.entering[0]
        ids_shape = batch.shape if isinstance(batch, torch.Tensor) else first.shape[:-1]
        same = first.ndim == 3 and first.shape[:-1] == ids_shape
        if not same:
            raise self.unfit("take more than hidden states of (batch, sequence, hidden)")
        for stack, entering in self._pass.entering.items():
            calls = {n: call for n, call in self._pass.calls.items() if self.stack_of(n) == stack}
            shape = tuple(self.packed(entering, calls[self.starts[stack]]).shape[:2])
            self._own[stack, shape[1]] = entering.shape[1]
            known = self._calls.setdefault((stack, shape), calls)
            same = same and all(same_call(call, calls[number]) for number, call in known.items())
        if not same:
            raise self.unfit("take more than hidden states of (batch, sequence, hidden)")
        return self.packed(first, self._pass.calls[0]).cpu()

    def advance(self, number: int, batch: Batch, hidden: torch.Tensor) -> torch.Tensor:
        """What enters block `number` when the block before it gave `hidden` for `batch`: the same, except where the
        decoder of an encoder-decoder begins."""
        if number not in self.starts[1:]:
            return hidden
        self.checkpoint.load_rest()
        pieces = self._pieces(batch)
        states = hidden.split(len(pieces[0]) if len(pieces) > 1 else len(hidden))
        return torch.cat([self._advance(number, *pair) for pair in zip(pieces, states, strict=True)])

    def _advance(self, number: int, batch: Batch, hidden: torch.Tensor) -> torch.Tensor:
        stack = self.starts.index(number)
        self._pass.begin({stack - 1: hidden.to(self.device)}, stack)
        with self._recording(), one_thread_per_operation(), torch.no_grad(), suppress(_Stop):
            self.model(**arguments(self.checkpoint, batch))
        return self.packed(self._pass.entering[stack], self._pass.calls[number]).cpu()

    def advance_all(self, number: int, batches: list[Any], hidden: list[torch.Tensor]) -> list[torch.Tensor]:
        """`advance` for every batch."""
        if number not in self.starts[1:]:
            return hidden
        return [self.advance(number, *pair) for pair in zip(batches, hidden, strict=True)]

    def run(self, number: int, hidden: torch.Tensor) -> torch.Tensor:
        """Output of a loaded block, where `hidden` is, for hidden states whose (batch, seq) was embedded before; of a
        block that was taken out those states themselves."""
        if number in self.checkpoint.removal.blocks:
            return hidden
        stack, shape = self.stack_of(number), tuple(hidden.shape[:2])
        own = self._own[stack, shape[1]]
        if (stack, shape) not in self._calls and shape[0] > (most := sequences_at_once(self.device, own)):
            return torch.cat([self.run(number, piece) for piece in hidden.split(most)])
        entering = hidden.to(self.device)
        carried = entering[:, own:]
        call = self._calls[stack, shape][number].with_carried(carried)
        output = self.blocks[number](entering[:, :own], *call.args, **call.kwargs)
        output = output[0] if isinstance(output, tuple | list) else output
        return (output if own == shape[1] else torch.cat([output, carried], dim=1)).to(hidden.device)

    def hand_through(self, number: int) -> Callable[..., Any]:
        """A forward for a block that was taken out: the hidden states it is called with, in the form in which the
        blocks of its stack return theirs."""
        block, stack = self.blocks[number], self.stack_of(number)

        def forward(*args: Any, **kwargs: Any) -> Any:
            hidden, _ = read_call(block, args, kwargs)
            tail = self._tail(stack, hidden)
            return hidden if tail is None else (hidden, *tail)

        return forward

    @contextmanager
    def heads(self) -> Iterator[None]:
        """Within this context `logits` may be called, from several threads."""
        with self._recording():
            yield

    def logits(self, batch: Batch, hidden: torch.Tensor) -> torch.Tensor:
        """The model's output, logits (batch, seq, vocabulary) of a language model, for a batch whose last block gave
        `hidden`; only within `heads`."""
        last = len(self.starts) - 1
        own = self._own[last, hidden.shape[1]]
        self._pass.begin({last: hidden[:, :own].to(self.device)})
        return first_output(self.model(**arguments(self.checkpoint, batch))).to(hidden.device)

    @contextmanager
    def _first_blocks(self) -> Iterator[None]:
        """The first block of every stack is loaded, where what it returns has to be seen for a new shape."""
        wanted = [n for stack, n in enumerate(self.starts) if self._needs_tail(stack)]
        with self.checkpoint.as_stored():  # what was taken out changes nothing of what they return besides
            for number in wanted:
                self.checkpoint.load_block(number)
        yield
        for number in wanted:
            self.checkpoint.release(self.blocks[number])

    def _needs_tail(self, stack: int) -> bool:
        known = [tail for (owner, _), tail in self._tails.items() if owner == stack]
        return not known or any(_holds_tensor(tail) for tail in known)

    @contextmanager
    def _recording(self) -> Iterator[None]:
        for number, block in enumerate(self.blocks):
            block.forward = self._recorder(number)  # type: ignore[assignment]
        try:
            yield
        finally:
            for block in self.blocks:
                vars(block).pop("forward", None)

    def _recorder(self, number: int) -> Any:
        block, stack = self.blocks[number], self.stack_of(number)

        def forward(*args: Any, **kwargs: Any) -> Any:
            now, (hidden, call) = self._pass, read_call(block, args, kwargs)
            if number != len(now.calls):
                raise self.unfit("are not run once each, in order")
            now.calls[number] = call
            if number == self.starts[stack]:
                now.entering[stack] = hidden
                if now.stop_at == stack:
                    raise _Stop
                self._see_tail(stack, hidden, call)
            if number == self.lasts[stack]:
                if stack == len(self.starts) - 1 and stack not in now.leaving:
                    raise _Stop
                hidden = now.leaving.get(stack, hidden)
            tail = self._tail(stack, hidden)
            return hidden if tail is None else (hidden, *tail)

        return forward

    def _see_tail(self, stack: int, hidden: torch.Tensor, call: BlockCall) -> None:
        """Notes what the first block of a stack returns besides hidden states, unless it is known for this shape."""
        block, key = self.blocks[self.starts[stack]], (stack, tuple(hidden.shape[:2]))
        if key in self._tails or not self._needs_tail(stack):
            return
        output = type(block).forward(block, hidden, *call.args, **call.kwargs)
        self._tails[key] = tuple(output[1:]) if isinstance(output, tuple | list) else None

    def _tail(self, stack: int, hidden: torch.Tensor) -> tuple[Any, ...] | None:
        key = (stack, tuple(hidden.shape[:2]))
        return self._tails[key] if key in self._tails else next(t for (s, _), t in self._tails.items() if s == stack)

    def packed(self, hidden: torch.Tensor, call: BlockCall) -> torch.Tensor:
        """Hidden states with those that the call carries behind them, where it has some."""
        carried = call.carried
        if carried is None:
            return hidden
        if carried.shape[::2] != hidden.shape[::2]:
            raise self.unfit("read states of another width than their own")
        return torch.cat([hidden, carried.to(hidden.dtype)], dim=1)

    def unfit(self, reason: str) -> UserError:
        return UserError(
            f"{self.checkpoint.folder}: the blocks of {type(self.model).__name__} {reason}; it cannot be run block by "
            "block, use a method without calibration"
        )


def _holds_tensor(tail: tuple[Any, ...] | None) -> bool:
    return any(isinstance(value, torch.Tensor) for value in tail or ())
