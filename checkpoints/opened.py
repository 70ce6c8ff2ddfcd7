"""What a pruning run asks of a model, wherever its weights are: a `Checkpoint` in files, a `Network` in memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from checkpoints.discovery import LinearRef
from workloads.removal import Removal
from workloads.removals_in_turn import in_turn

Edit = Callable[[int, nn.Module], None]  # (number of a unit, the unit)


class OpenModel(Protocol):
    """`folder` is what messages call it. `blocks` are its units in order, at `block_paths`; `shared` maps a parameter
    of a unit that is also an earlier one's to the name it has there."""

    folder: Path
    model: Any
    device: torch.device
    removal: Removal
    blocks: Any
    block_paths: Any
    shared: Any

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        ...

    def found_refs(self) -> list[list[LinearRef]]:
        """The prunable matrices of every unit of the unpruned model, shared ones in the first alone."""
        ...

    def block_refs(self, number: int) -> Sequence[LinearRef]:
        """Those of one unit, shared ones too."""
        ...

    def take_out(self, removal: Removal, biases: Any = None, edit: Edit | None = None) -> None:
        """From here on units are loaded without what `removal` takes out, with `biases` by the names of matrices, and
        then given to `edit`."""
        ...

    def then(self, edit: Edit) -> None:
        """From here on units are given to `edit` too."""
        ...

    def as_stored(self) -> AbstractContextManager[None]:
        """Within it units are loaded whole."""
        ...

    def without(self, more: Removal) -> AbstractContextManager[None]:
        """Within it blocks and sub-layers of `more` are gone, too."""
        ...

    def load_block(self, number: int) -> nn.Module: ...
    def load_rest(self) -> None: ...
    def release(self, module: nn.Module) -> None: ...
    def stored_dtype(self, parameter: str) -> torch.dtype: ...
    def sha256(self) -> str: ...


class Changes:
    """What an open model's units are loaded with, kept in one place for all that `OpenModel` is made of."""

    def __init__(self) -> None:
        self.removal = Removal()
        self._biases: dict[str, torch.Tensor] = {}
        self._edit: Edit | None = None

    def take_out(
        self, removal: Removal, biases: Mapping[str, torch.Tensor] | None = None, edit: Edit | None = None
    ) -> None:
        """From here on units are loaded without what `removal` takes out, and with `biases`, by the names of matrices,
        in the place of theirs; `edit` then writes into what is left of a unit. One that is gone hands them through."""
        self.removal, self._biases, self._edit = removal, dict(biases or {}), edit

    def then(self, edit: Edit) -> None:
        """From here on units are given to `edit` too, after whatever they were given to before."""
        before = self._edit

        def both(number: int, unit: nn.Module) -> None:
            if before is not None:
                before(number, unit)
            edit(number, unit)

        self._edit = both

    @contextmanager
    def as_stored(self) -> Iterator[None]:
        """Within this context units are loaded whole, whatever `take_out` was told."""
        changes = self.removal, self._biases, self._edit
        self.take_out(Removal())
        try:
            yield
        finally:
            self.take_out(*changes)

    @contextmanager
    def without(self, more: Removal) -> Iterator[None]:
        """Within this context blocks and sub-layers of `more` are gone besides what `take_out` was told. An edit must
        leave out what `removal` says is gone."""
        changes = self.removal, self._biases, self._edit
        removal = in_turn(self.removal, more)
        left = {name: bias for name, bias in self._biases.items() if not removal.has_sublayer_of(name)}
        self.take_out(removal, left, self._edit)
        try:
            yield
        finally:
            self.take_out(*changes)
