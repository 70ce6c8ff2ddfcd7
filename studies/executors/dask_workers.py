"""Workers of Dask (dask.distributed): those of a scheduler that is there, or processes of this machine."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from studies.executors.asked import StudyExecutor
from studies.telling import tell
from workloads.errors import UserError, one_line

ANSWERS_S = 10  # so long a scheduler has to answer


@contextmanager
def dask(asked: StudyExecutor, workers: int, out: Path, beside: Path) -> Iterator[Executor]:
    """The scheduler runs a job again whose worker it lost (`distributed.scheduler.allowed-failures`). Raises UserError
    where Dask is not installed, and where no scheduler answers."""
    try:
        from distributed import Client, LocalCluster
    except ModuleNotFoundError:
        raise UserError("executor.name = 'dask' needs Dask: pip install 'prunesim[dask]'") from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what it loses and runs again is no news
    if asked.address:
        with _client(Client, asked.address, beside) as client:
            yield _executor(client)
        return
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
        ) as cluster,
        Client(cluster) as client,
    ):
        yield _executor(client)


def _executor(client: Any) -> Executor:
    """Every job is a new one to Dask: whether its result is there is known to the study."""
    return _Told(client.get_executor(pure=False))


class _Told(Executor):
    """Dask's own executor, whose errors of workers come in our words."""

    def __init__(self, inner: Executor):
        self._inner = inner

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        from distributed.scheduler import KilledWorker

        future: Future[Any] = Future()

        def told(done: Future[Any]) -> None:
            if done.cancelled():
                future.set_exception(CancelledError("the scheduler is gone"))
            elif isinstance(error := done.exception(), KilledWorker):
                future.set_exception(UserError(_killed(error)))
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(done.result())

        self._inner.submit(function, *args, **kwargs).add_done_callback(told)
        return future


def _killed(error: Any) -> str:
    return (
        f"{error.allowed_failures + 1} workers of Dask ended while they made the same job, the last at "
        f"{error.last_worker.address}; give them more memory, and run the study again to go on"
    )


def _client(kind: Any, address: str, beside: Path) -> Any:
    where = f"executor.address = {address!r}"
    file = None if "://" in address or address.rpartition(":")[2].isdigit() else beside / address
    if file is not None and not file.is_file():
        raise UserError(f"{where}: no such scheduler file: {file}; give tcp://host:port, or the file that "
                        "Dask's scheduler writes")  # fmt: skip
    try:
        client = kind(address, timeout=ANSWERS_S) if file is None else kind(scheduler_file=str(file), timeout=ANSWERS_S)
    except (OSError, TimeoutError, ValueError, RuntimeError) as error:
        raise UserError(f"{where}: no Dask scheduler answers there within {ANSWERS_S} s ({one_line(error)}); start "
                        "one, or leave `address` out to use processes of this machine") from None  # fmt: skip
    if not client.scheduler_info().get("workers"):
        tell(f"the Dask scheduler at {address} has no workers yet; waiting for the first")
    return client
