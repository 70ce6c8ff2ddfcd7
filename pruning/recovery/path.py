"""The path of states through the blocks of a model in one forward pass, as feature flow sees it (methods 14.1)."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn


@dataclass
class Path:
    """Of one forward pass: the states (batch, ...) that enter the first block and leave each, and what enters the
    `readers`, (..., in) or (batch, channels, ...)."""

    states: list[torch.Tensor] = field(default_factory=list)
    inner: list[torch.Tensor] = field(default_factory=list)


class PathRecorder:
    """Hooks on blocks, in order, and on modules whose inputs count; each thread has the pass that it asks for."""

    def __init__(self, blocks: Sequence[nn.Module], readers: Iterable[nn.Module]):
        self._own = threading.local()
        self._handles = [blocks[0].register_forward_pre_hook(self._enter, with_kwargs=True)]
        self._handles += [block.register_forward_hook(self._leave) for block in blocks]
        self._handles += [reader.register_forward_pre_hook(self._inside) for reader in readers]

    @contextmanager
    def recording(self) -> Iterator[Path]:
        self._own.path = Path()
        try:
            yield self._own.path
        finally:
            self._own.path = None

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _enter(self, block: nn.Module, args: tuple, kwargs: dict) -> None:
        if (path := getattr(self._own, "path", None)) is not None:
            path.states.append(args[0] if args else kwargs["hidden_states"])

    def _leave(self, block: nn.Module, args: object, output: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        if (path := getattr(self._own, "path", None)) is not None:
            path.states.append(output[0] if isinstance(output, tuple | list) else output)

    def _inside(self, module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        if (path := getattr(self._own, "path", None)) is not None:
            path.inner.append(args[0])
