"""Whether the packages that prunesim stands on are its own: `simulator`, `reports` ... are common names."""

import sys
from importlib.util import find_spec
from pathlib import Path

ROOMS = ("workloads", "checkpoints", "pruning", "simulator", "measurement", "reports", "validation", "studies")


def check_rooms() -> None:
    """Raises ImportError in one sentence where a module of somebody else's stands before one of ours; the command
    prints it."""
    for room in ROOMS:
        file = found(room)
        if file is not None and file != HOME / room / "__init__.py":
            said = (
                f"{file} hides prunesim's own package `{room}`: rename it, or start Python where it is not on the path"
            )
            if Path(sys.argv[0]).stem in (
                "prunesim",
                "-m",
            ):  # the command, or python -m prunesim, not yet at its own file
                sys.exit(f"prunesim: {said}")
            raise ImportError(said)


HOME = Path(__file__).resolve().parents[1]


def found(room: str) -> Path | None:
    """The file that `import room` runs; None where there is none."""
    module = sys.modules.get(room)
    file = module.__file__ if module is not None else getattr(find_spec(room), "origin", None)
    return Path(file).resolve() if file else None
