"""Sequences that no mask was made with, for plans to be judged by: drawn behind the calibration sequences, which stay
those they are without; where there are no more of them, some of the calibration sequences are kept apart."""

from collections.abc import Callable
from dataclasses import replace

import torch

from pruning.data.calibration import Calibration
from workloads.errors import UserError

HELD = 8  # sequences
SHARE = 8  # one in so many is kept apart where there are no more
RUN = 32  # tokens: a sequence that shares so many in a row with a calibration sequence is not held out


def held_out(read: Callable[[int | None], Calibration], samples: int | None) -> tuple[Calibration, torch.Tensor]:
    """(what masks are made with, ids (1 to HELD, seq_len) to judge them by). `read(n)`: the first n sequences, None:
    all there are. Raises UserError where there are not two."""
    if samples is not None:
        try:
            more = read(samples + 2 * HELD)
        except UserError:
            pass  # there are not so many
        else:
            first, rest = more.ids[:samples], more.ids[samples:]
            apart = torch.tensor([not shares(one, first) for one in rest], dtype=torch.bool)
            if bool(apart.any()):
                return replace(more, ids=first), rest[apart][:HELD]
    found = read(samples)
    if len(found.ids) < 2:
        raise UserError(
            f"plans are judged by sequences that no mask is made with, and {found.source} gives one; ask for more "
            "`samples`, or fewer tokens of each (`seq_len`)"
        )
    count = min(HELD, max(1, len(found.ids) // SHARE))
    return replace(found, ids=found.ids[:-count]), found.ids[-count:]


def shares(one: torch.Tensor, others: torch.Tensor) -> bool:
    """Whether ids (seq,) hold min(RUN, seq) tokens in a row that one of `others` (sequences, seq) holds."""
    length = min(RUN, len(one))
    known = {bytes(run) for run in _runs(others, length)}
    return any(bytes(run) in known for run in _runs(one[None], length))


def _runs(ids: torch.Tensor, length: int):
    return ids.unfold(1, length, 1).reshape(-1, length).to(torch.int32).contiguous().numpy()
