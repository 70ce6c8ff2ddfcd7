"""Runs a causal LM one decoder block at a time, so that a model larger than memory can be pruned and evaluated.

The model's own forward is always what runs: to embed tokens its blocks are replaced by recorders, which note the arguments
each block is called with and pass the hidden states through; to get logits the last recorder hands over the hidden states
computed elsewhere. So masks, positions and caps of every family come from the model itself, never from arguments built by
hand.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from pruning.parallel import one_thread_per_operation
from workloads.checkpoint import Checkpoint
from workloads.discovery import LinearRef, block_linears
from workloads.errors import UserError


@dataclass
class BlockCall:
    """How the model calls one block, besides the hidden states."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass
class _Pass(threading.local):
    """What the recorders of one forward pass note and hand over; one per thread."""

    calls: dict[int, BlockCall] = field(default_factory=dict)
    first_hidden: torch.Tensor | None = None
    last_hidden: torch.Tensor | None = None


class _Stop(Exception):
    """Ends a forward pass at the last block, when nothing behind it is wanted."""


class BlockwiseModel:
    """`embed` tokens, `run` block after block, take `logits`; blocks are loaded by `checkpoint.load_block`."""

    def __init__(self, checkpoint: Checkpoint):
        """Raises UserError for models that do not run their blocks once each, in order."""
        self.checkpoint = checkpoint
        self.model = checkpoint.model
        self.blocks = checkpoint.blocks
        self.device = checkpoint.device
        checkpoint.load_rest()
        self._pass = _Pass()
        self._tuples = False
        self._calls: dict[tuple[int, ...], dict[int, BlockCall]] = {}
        self._detect_output_kind()
        self._try()

    def refs(self, number: int) -> list[LinearRef]:
        """The prunable matrices of a block."""
        return block_linears(self.blocks[number], f"{self.checkpoint.block_path}.{number}", number)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Hidden states (batch, seq, hidden) that enter block 0 for token ids (batch, seq).

        Raises UserError for models whose blocks depend on the tokens by more than hidden states.
        """
        self._pass.calls, self._pass.first_hidden, self._pass.last_hidden = {}, None, None
        with self._recording(), one_thread_per_operation(), torch.no_grad(), suppress(_Stop):
            self.model(input_ids=ids.to(self.device), use_cache=False)
        calls, hidden = self._pass.calls, self._pass.first_hidden
        assert hidden is not None
        known = self._calls.setdefault(tuple(ids.shape), calls)
        same = all(_equal(vars(call), vars(calls[number])) for number, call in known.items())
        if not same or hidden.shape[:-1] != ids.shape:
            raise self._unfit("take more than hidden states of (batch, sequence, hidden)")
        return hidden.cpu()

    def run(self, number: int, hidden: torch.Tensor) -> torch.Tensor:
        """Output of a loaded block, where `hidden` is, for hidden states whose (batch, seq) was embedded before."""
        call = self._calls[tuple(hidden.shape[:2])][number]
        output = self.blocks[number](hidden.to(self.device), *call.args, **call.kwargs)
        return (output[0] if isinstance(output, tuple) else output).to(hidden.device)

    @contextmanager
    def heads(self) -> Iterator[None]:
        """Within this context `logits` may be called, from several threads."""
        with self._recording():
            yield

    def logits(self, ids: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Logits (batch, seq, vocabulary) for token ids whose last block gave `hidden`; only within `heads`."""
        self._pass.calls, self._pass.first_hidden, self._pass.last_hidden = {}, None, hidden.to(self.device)
        return self.model(input_ids=ids.to(self.device), use_cache=False).logits.to(hidden.device)

    @contextmanager
    def _recording(self) -> Iterator[None]:
        for number, block in enumerate(self.blocks):
            block.forward = self._recorder(number)
        try:
            yield
        finally:
            for block in self.blocks:
                del block.forward

    def _recorder(self, number: int):
        def forward(*args: Any, **kwargs: Any) -> Any:
            kwargs = dict(kwargs)
            hidden, args = (args[0], args[1:]) if args else (kwargs.pop("hidden_states"), ())
            now = self._pass
            if number != len(now.calls):
                raise self._unfit("are not run once each, in order")
            now.calls[number] = BlockCall(args, kwargs)
            if number == 0:
                now.first_hidden = hidden
            if number == len(self.blocks) - 1:
                if now.last_hidden is None:
                    raise _Stop
                hidden = now.last_hidden
            return (hidden,) if self._tuples else hidden

        return forward

    def _unfit(self, reason: str) -> UserError:
        return UserError(
            f"{self.checkpoint.folder}: the blocks of {type(self.model).__name__} {reason}; it cannot be run block by "
            "block, use a method without calibration"
        )

    @torch.no_grad()
    def _try(self) -> None:
        """One whole pass of two tokens, past every block."""
        ids = torch.zeros((1, 2), dtype=torch.long, device=self.device)
        states = self.embed(ids)
        with self.heads():
            self.logits(ids, states)

    @torch.no_grad()
    def _detect_output_kind(self) -> None:
        """Some families' blocks return a tuple: seen on a real pass of two tokens through block 0."""
        self.checkpoint.load_block(0)
        seen: list[bool] = []
        first = self.blocks[0]

        def forward(*args: Any, **kwargs: Any) -> Any:
            seen.append(isinstance(type(first).forward(first, *args, **kwargs), tuple))
            raise _Stop

        first.forward = forward
        with suppress(_Stop):
            self.model(input_ids=torch.zeros((1, 2), dtype=torch.long, device=self.device), use_cache=False)
        del first.forward
        self.checkpoint.release(first)
        self._tuples = seen[0]


def _equal(one: Any, other: Any) -> bool:
    """Whether two arguments of a block are the same; tensors by value, unknown objects by their type."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return True
