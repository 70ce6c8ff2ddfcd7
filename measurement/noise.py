"""What is said of times that spread too far: each situation, cold and warm, is refused by its own spread.

The reason of a case says which of its times are refused; where it says so of one situation, the other's stand, and the
case ran. Needs no torch."""

from collections.abc import Mapping

NOISY = "noisy: "  # how reasons begin of cases that a repeated command measures again
WAY_OUT = "repeat on an idle machine, or accept it by a larger `spread`"


def noise(spreads: Mapping[str, float], most: float) -> str:
    """Of the spread (median / least time) of each situation; "" where all are at most `most`."""
    return _said({name: f"{spread:.2f}x the least or more, allowed {most:g}x" for name, spread in spreads.items()
                  if not spread <= most})  # fmt: skip


def beside(dense: str, own: str, situations: tuple[str, ...]) -> str:
    """The noise of a case beside a dense kernel: nothing is left to hold it against where that is noisy."""
    if not dense.startswith(NOISY):
        return own
    found = {}
    for name in situations:
        of_dense, of_own = _part(dense, name), _part(own, name)
        if of_dense or of_own:
            found[name] = of_own or f"{of_dense}: those of the dense kernel beside it"
    return _said(found)


def noisy(reason: str, situation: str) -> bool:
    return reason.startswith(NOISY) and bool(_part(reason, situation))


def any_steady(reason: str, situations: tuple[str, ...]) -> bool:
    return not all(noisy(reason, name) for name in situations)


def _said(found: Mapping[str, str]) -> str:
    parts = [f"half of the {name} times are {what}" for name, what in found.items()]
    return f"{NOISY}{'; '.join(parts)}; {WAY_OUT}" if parts else ""


def _part(reason: str, situation: str) -> str:
    """ "2.00x the least or more, allowed 1.5x" of a situation; "" where it is steady."""
    _, _, rest = reason.partition(f"half of the {situation} times are ")
    return rest.partition(";")[0]
