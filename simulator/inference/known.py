"""What was found out before, for all runners of one machine in a process: a study asks for the same unpruned model
beside every method, and for the same random masks."""

from functools import lru_cache
from typing import Any

from simulator.statistics import StatisticsStore

MACHINES, WITH_MASKS = 64, 8  # the last ones that were asked for; statistics of masks are larger


def shared(what: str, sha256: str) -> dict[Any, Any]:
    """A dictionary for results of one kind on the machine of that description; one of its own where "" says that there
    is none."""
    return _shared(what, sha256) if sha256 else {}


@lru_cache(maxsize=MACHINES)
def _shared(what: str, sha256: str) -> dict[Any, Any]:
    return {}


def random_statistics(sha256: str) -> StatisticsStore:
    """Of random masks, which every model and method draws alike, on the machine of that description."""
    return _random_statistics(sha256) if sha256 else StatisticsStore(hold=True)


@lru_cache(maxsize=WITH_MASKS)
def _random_statistics(sha256: str) -> StatisticsStore:
    return StatisticsStore(hold=True)
