"""Runs commands, each a list in the JSON list on stdin, in a process that cannot import what the extra `torch` brings;
prints [exit code, output, errors] of each as JSON."""

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from importlib.abc import MetaPathFinder

ABSENT = ("huggingface_hub", "prodigyopt", "tokenizers", "torch", "transformers")


class Absent(MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def ended(arguments: list[str]) -> tuple[int, str, str]:
    from studies.cli.main import main

    code = 0
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            main(arguments)
        except SystemExit as stop:
            code = int(stop.code or 0)
    return code, out.getvalue(), err.getvalue()


if __name__ == "__main__":
    sys.meta_path.insert(0, Absent())
    print(json.dumps([ended(arguments) for arguments in json.load(sys.stdin)]))
