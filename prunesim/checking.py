"""Whether what you made obeys the laws that everything here obeys, in Python's words."""

from pathlib import Path
from typing import Any

from measurement.published import is_record
from studies.checking import check_bundle, check_laws, is_bundle
from studies.progress import ProgressLine
from studies.records import check_record
from validation.conformance.laws import Result


class Checked(list[Result]):
    """The results, one a law; `passed` where no law is broken."""

    @property
    def passed(self) -> bool:
        return not any(result.failed for result in self)

    def __repr__(self) -> str:
        return "\n".join(map(str, self))


def check(what: Any) -> Checked:
    """`what`: an accelerator or a pruning method, as a class, an object or a name (`my_chip.py:MyChip`), a bundle's
    folder, or a record of times.

    Raises UserError for a bundle or a record that is damaged, and for what has no laws.
    """
    if is_record(what):
        return Checked([Result("integrity", "passed", check_record(what))])
    if is_bundle(what):
        return Checked([Result("integrity", "passed", check_bundle(what, ProgressLine(terminal_only=True)))])
    return Checked(check_laws(str(what) if isinstance(what, Path) else what))
