"""prunesim doctor"""

import dataclasses
import json

from studies.cli.output import check_format

FORMATS = ("table", "json")


def doctor(*, format: str = "table") -> None:
    """Say what this machine can run (CPU, GPU, libraries, extras, folders) and what not, with the remedy for each.

    Nothing is measured and nothing is fetched.

    Parameters
    ----------
    format
        table or json.
    """
    check_format(format, FORMATS)
    from studies.doctor import findings

    found = list(findings())
    if format == "json":
        print(json.dumps([dataclasses.asdict(each) for each in found], indent=1))
        return
    for number, each in enumerate(found):
        if number == 0 or each.about != found[number - 1].about:
            print(f"{chr(10) if number else ''}{each.about}")
        print(f"  {each}")
