"""SIGMA's packing of kept weights onto its multipliers, and what each fold asks of the distribution ports; over
packed words."""

from typing import Any

import numpy as np
from numba import njit

from workloads.bits import popcount


@njit(cache=True, nogil=True)
def pack(counts: np.ndarray, num_ms: int, continuous: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Segments (stretches of one row's kept weights) in folds, from the rows' kept weights (rows,).

    Returns starts (folds + 1,): fold f holds segments starts[f] to starts[f + 1] - 1; and of every segment its row, how
    many of the row's kept weights come before it, and how many it has. A fold whose first segment has weights before it
    is a continuation: multiplier 0 carries the row's partial sum.
    """
    most = counts.shape[0]
    for kept in counts:
        most += kept // (num_ms - 1) + 1
    starts = np.zeros(most + 1, dtype=np.int64)
    row = np.empty(most, dtype=np.int64)
    before = np.empty(most, dtype=np.int64)
    length = np.empty(most, dtype=np.int64)
    n = folds = 0
    used = num_ms  # of the open fold; a full one makes the next weight open another
    # Segments 0..n - 1 are placed; `used` multipliers of fold folds - 1 are taken, the partial sum's among them; used
    # == num_ms means that no fold is open. `done` of the row's kept weights are in segments.
    for r in range(counts.shape[0]):
        done = np.int64(0)
        kept = counts[r]
        if not continuous and used + kept > num_ms and kept > 0:
            used = num_ms  # the row does not fit: the rest of the fold idles
        while done < kept:
            if used == num_ms:
                starts[folds] = n
                folds += 1
                used = 1 if done > 0 else 0
            take = min(kept - done, num_ms - used)
            row[n], before[n], length[n] = r, done, take
            n += 1
            done += take
            used += take
        if not continuous and kept > num_ms:
            used = num_ms  # a piece has its fold to itself
    starts[folds] = n
    return starts[: folds + 1], row[:n], before[:n], length[:n]


@njit(cache=True, nogil=True)
def positions(words: np.ndarray, cols: int, starts: np.ndarray, row: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Where in the mask, read row by row, each fold begins, (folds + 1,) int64; the last is rows * cols. A fold that
    begins with a row begins at its first column, a continuation behind the last kept weight of the piece before it."""
    folds = starts.shape[0] - 1
    begins = np.zeros(folds + 1, dtype=np.int64)
    begins[folds] = np.int64(words.shape[0]) * cols
    current = w = passed = np.int64(-1)
    # Folds come in the order of the mask, so a row is read on from where the fold before stopped: `passed` kept weights
    # of row `current` lie before its word w.
    for f in range(1, folds):
        r, wanted = row[starts[f]], before[starts[f]]
        begins[f] = r * cols
        if wanted == 0:
            continue
        if r != current:
            current, w, passed = r, np.int64(0), np.int64(0)
        while passed + np.int64(popcount(words[r, w])) < wanted:
            passed += np.int64(popcount(words[r, w]))
            w += 1
        word: Any = words[r, w]
        for _ in range(wanted - passed - 1):
            word &= word - np.uint64(1)
        lowest = word & (~word + np.uint64(1))
        begins[f] += 64 * w + np.int64(popcount(lowest - np.uint64(1))) + 1
    return begins


@njit(cache=True, nogil=True)
def _add_columns(seen: np.ndarray, row_words: np.ndarray, before: int, length: int) -> None:
    """Sets in `seen` the columns of `length` kept weights of a row, after skipping the first `before`."""
    # Still to skip: `before`; still to set: `length`. A word's lowest bits are skipped, then its bits above `length`
    # dropped.
    for w in range(row_words.shape[0]):
        word: Any = row_words[w]
        kept: Any = np.int64(popcount(word))
        if before >= kept:
            before -= kept
            continue
        for _ in range(before):
            word &= word - np.uint64(1)
        kept -= before
        before = 0
        if kept > length:
            rest = word
            for _ in range(length):
                rest &= rest - np.uint64(1)
            word ^= rest
            kept = length
        seen[w] |= word
        length -= kept
        if length == 0:
            break


@njit(cache=True, nogil=True)
def _count(seen: np.ndarray) -> int:
    total: Any = np.int64(0)
    for word in seen:
        total += np.int64(popcount(word))
    return total


@njit(cache=True, nogil=True)
def port_loads(
    words: np.ndarray, starts: np.ndarray, row: np.ndarray, before: np.ndarray, length: np.ndarray, group: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of every fold: kept weights (folds,), distinct columns (folds,), and the W and D of the ports that can be its
    slowest, (folds, 3) each, for ports of `group` neighbouring multipliers.

    W + tokens * D grows with both, and every port but the last and that of a partial sum has W = group; so three pairs
    hold the maximum for any number of tokens: the full group with the most distinct columns, the last group, and port 0
    of a continuation (its partial sum counts as one column). Only groups that span rows need their columns looked up.
    """
    folds = starts.shape[0] - 1
    kept = np.zeros(folds, dtype=np.int32)
    distinct = np.zeros(folds, dtype=np.int32)
    port_weights = np.zeros((folds, 3), dtype=np.int32)
    port_inputs = np.zeros((folds, 3), dtype=np.int32)
    in_group = np.zeros(words.shape[1], dtype=np.uint64)
    in_fold = np.zeros(words.shape[1], dtype=np.uint64)
    # Multipliers are filled from `place` 0 on; groups of `group` of them share a port. The open group has `parts`
    # pieces of rows with `weights` kept weights; the union of columns (in_group) is made only from the second piece on,
    # as a row's columns are distinct. W and D of a closed group go to the column of its kind: full, last, partial sum.
    for f in range(folds):
        first, stop = starts[f], starts[f + 1]
        continued = before[first] > 0
        place = 1 if continued else 0
        if continued and group == 1:
            port_inputs[f, 2] = 1
        parts = weights = 0  # of the open group
        alone_row: Any = np.int64(0)  # its first part
        alone_before: Any = np.int64(0)
        alone_length: Any = np.int64(0)
        several = stop - first > 1
        if several:
            in_fold[:] = 0
        for s in range(first, stop):
            kept[f] += length[s]
            if several:
                _add_columns(in_fold, words[row[s]], before[s], length[s])
            done = np.int64(0)
            while done < length[s]:
                left = length[s] - done
                if place % group == 0 and left >= group:
                    whole = left // group
                    port_weights[f, 0] = port_inputs[f, 0] = group
                    place += whole * group
                    done += whole * group
                    continue
                take = min(group - place % group, left)
                if parts == 0:
                    alone_row, alone_before, alone_length = row[s], before[s] + done, take
                else:
                    if parts == 1:
                        in_group[:] = 0
                        _add_columns(in_group, words[alone_row], alone_before, alone_length)
                    _add_columns(in_group, words[row[s]], before[s] + done, take)
                parts += 1
                weights += take
                place += take
                done += take
                if place % group == 0 or (s == stop - 1 and done == length[s]):
                    columns = weights if parts == 1 else _count(in_group)
                    if continued and place <= group:
                        port_weights[f, 2], port_inputs[f, 2] = weights, columns + 1
                    elif place % group == 0:
                        port_weights[f, 0] = group
                        port_inputs[f, 0] = max(port_inputs[f, 0], columns)
                    else:
                        port_weights[f, 1], port_inputs[f, 1] = weights, columns
                    parts = weights = 0
        distinct[f] = _count(in_fold) if several else kept[f]
    return kept, distinct, port_weights, port_inputs
