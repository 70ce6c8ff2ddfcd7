"""Several threads, the same bits: every torch operation runs on one thread, and work items run side by side.

torch splits sums differently for different thread counts, which changes the last bits of results. Here the thread count
only decides how many items are in flight, never how one is computed, and results come back in order.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

from pruning.float_products import quick_products
from workloads.threads import worker_count

PIECE_TOKENS = {"cpu": 512, "cuda": 4096}
Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def one_thread_per_operation() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with quick_products():
            yield
    finally:
        torch.set_num_threads(before)


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item], large: bool = False) -> Iterator[Result]:
    """Results of function(item) in the order of the items, at most twice as many in flight as there are workers; as
    many as there are workers if results are large."""
    workers = worker_count()
    most = workers - 1 if large else 2 * workers

    def task(item: Item) -> Result:
        with torch.no_grad():  # grad mode belongs to the thread
            return function(item)

    if workers == 1 or (isinstance(items, list) and len(items) == 1):  # no thread needed
        with one_thread_per_operation():
            for item in items:
                yield task(item)
        return
    with one_thread_per_operation(), ThreadPoolExecutor(workers) as pool:
        waiting: deque = deque()
        for item in items:
            waiting.append(pool.submit(task, item))
            if len(waiting) > most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def pieces(device: torch.device, *batch: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
    """A batch of tensors (sequences, tokens) in pieces of at most PIECE_TOKENS tokens, on the device; the same for any
    number of threads."""
    return split(device, sequences_at_once(device, batch[0].shape[1]), batch)


def split(device: torch.device, most: int, batch: tuple[torch.Tensor, ...]) -> list[tuple[torch.Tensor, ...]]:
    """A batch of tensors (samples, ...) in pieces of at most `most` samples, on the device."""
    return list(zip(*(each.to(device).split(most) for each in batch), strict=True))


def sequences_at_once(device: torch.device, tokens: int) -> int:
    """Sequences of so many tokens in a piece of at most PIECE_TOKENS, at least one."""
    return max(1, PIECE_TOKENS[device.type] // tokens)


def side_by_side(function: Callable[[Item], Result], items: list[Item], device: torch.device) -> Iterator[Result]:
    """Results of function(item) in order: on the CPU as `ordered_map`, on a GPU one after the other."""
    return ordered_map(function, items, large=True) if device.type == "cpu" else map(function, items)
