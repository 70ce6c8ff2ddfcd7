"""From the number of a burst in a channel's memory to the bank and row that hold it."""

import numpy as np

from simulator.dram.timing import DramTiming
from workloads.errors import unknown

MAPPINGS = ("interleaved", "row")


def locate(bursts: np.ndarray, timing: DramTiming, mapping: str = "interleaved") -> tuple[np.ndarray, np.ndarray]:
    """Bank and row, each (n,) int64, of the bursts number (n,) int64; addresses wrap at the channel's capacity.

    Banks count through the channel: pseudo-channel, stack id, group, bank, the last fastest.

    interleaved: bits from below: two of column, pseudo-channel, stack id, group, bank, rest of the column, row; then
      pseudo-channel, stack id, group, bank and row are XORed in turn with the column's bits, from below, as many as
      there are (Ramulator 2.1's MOP4CLXOR, after minimalist open page, Kaseridis et al., MICRO 2011). Neighbouring
      bursts thus fall into different bank groups, and a device whose column has bits left for the row (DDR4: three)
      opens rows more often than their size asks for.
    row: column, group, bank, stack id, pseudo-channel, row: a whole row of one bank, then one of the next group. Within
      a row every access waits nCCD_L.

    Raises UserError for an unknown mapping.
    """
    if mapping not in MAPPINGS:
        raise unknown("DRAM address mapping", mapping, MAPPINGS)
    rest = np.asarray(bursts, dtype=np.int64)
    columns, channels = timing.bursts_per_row, timing.pseudo_channels
    stacks, groups, banks = timing.stack_ids, timing.bank_groups, timing.banks_per_group
    if mapping == "row":
        rest = rest // columns
        rest, group = np.divmod(rest, groups)
        rest, bank = np.divmod(rest, banks)
        rest, stack = np.divmod(rest, stacks)
        row, channel = np.divmod(rest, channels)
        return ((channel * stacks + stack) * groups + group) * banks + bank, row % timing.rows
    rest, low = np.divmod(rest, 4)
    rest, channel = np.divmod(rest, channels)
    rest, stack = np.divmod(rest, stacks)
    rest, group = np.divmod(rest, groups)
    rest, bank = np.divmod(rest, banks)
    row, high = np.divmod(rest, columns // 4)
    fold = low + 4 * high  # the column, whose bits are used up from below
    channel, fold = channel ^ (fold % channels), fold // channels
    stack, fold = stack ^ (fold % stacks), fold // stacks
    group, fold = group ^ (fold % groups), fold // groups
    bank, fold = bank ^ (fold % banks), fold // banks
    return ((channel * stacks + stack) * groups + group) * banks + bank, (row % timing.rows) ^ fold
