"""Work items side by side: results in order, few in flight, torch left as it was."""

import threading
import time

import pytest
import torch

from pruning.parallel import ordered_map, worker_count


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_keep_the_order_of_the_items_and_few_wait(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNESIM_THREADS", str(workers))
    taken, running, most = [], [], []
    lock = threading.Lock()

    def slow_first(item: int) -> int:
        with lock:
            running.append(item)
            most.append(len(running))
        time.sleep(0.02 if item % 3 == 0 else 0)
        with lock:
            running.remove(item)
        return item * item

    def items():
        for item in range(12):
            taken.append(item)
            yield item

    for done, result in enumerate(ordered_map(slow_first, items())):
        assert result == done * done
        assert len(taken) <= done + 2 * workers + 1
    assert len(taken) == 12
    assert max(most) <= workers


def test_operations_run_on_one_thread_without_gradients_and_errors_come_through() -> None:
    torch.set_num_threads(2)
    weight = torch.ones(3, requires_grad=True)
    seen = list(ordered_map(lambda _: (torch.get_num_threads(), (weight * 2).requires_grad), range(4)))
    assert seen == [(1, False)] * 4
    assert torch.get_num_threads() == 2
    with pytest.raises(ZeroDivisionError):
        list(ordered_map(lambda item: 1 / item, [1, 0, 2]))
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("asked", "workers"), [("3", 3), ("0", 1)])
def test_the_number_of_workers_can_be_asked_for(asked: str, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNESIM_THREADS", asked)
    assert worker_count() == workers


def test_without_a_wish_there_are_as_many_workers_as_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PRUNESIM_THREADS", raising=False)
    assert worker_count() >= 1
    monkeypatch.delattr("os.sched_getaffinity", raising=False)  # as on macOS
    assert worker_count() >= 1
