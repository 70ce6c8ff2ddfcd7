"""Commands of README.md and docs/: found, told whether they are run, and run as a reader would.

A command is a line of an indented or fenced (console, bash, sh) block that starts with prunesim, make or python. Above
the block a comment, which no reader of the page sees, may say:

    <!-- not run: REASON -->            none of the block's commands is run
    <!-- not run (run, measure): REASON -->   those of these verbs are not
    <!-- run: slow -->                  only where PRUNESIM_SLOW_DOCS is set
    <!-- run: exit 2 -->                 it ends with this exit code
    <!-- file: NAME -->                 a reader saves the block, of any language, under this name

In console blocks lines that start with "$ " are commands and what follows each is what it prints: whole, or with "..."
for any lines, and at a line's end for the rest of it.
"""

import io
import re
import shlex
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ("prunesim", "make", "python")
SHELLS = ("console", "bash", "sh")
MARK = re.compile(r"<!-- (?P<what>not run|run|file)(?: \((?P<verbs>[\w/., ]+)\))?: (?P<reason>[^>]+?) -->")
RULE = re.compile("─+")
PROGRESS = re.compile(r": \d+/\d+$")
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


@dataclass(frozen=True)
class Block:
    """A block of a page: its language ("" if indented), the line it starts at, its lines, and the mark above it."""

    page: str
    number: int
    language: str
    lines: tuple[str, ...]
    mark: re.Match[str] | None

    @property
    def file(self) -> str:
        """The name under which a reader saves it, "" if it is no file."""
        return self.mark["reason"] if self.mark and self.mark["what"] == "file" else ""


@dataclass(frozen=True)
class Command:
    """text: one line, as typed. output: what the page shows below it, () if nothing. not_run: why, "" if it is run.
    code: how it ends."""

    page: str
    number: int
    text: str
    output: tuple[str, ...] = ()
    not_run: str = ""
    code: int = 0

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text, comments=True)

    @property
    def verb(self) -> str:
        """`simulate` of `prunesim simulate`, `demo` of `make demo`."""
        return self.words[1] if len(self.words) > 1 else ""

    def __str__(self) -> str:
        return f"{self.page}:{self.number}: {self.text}"


def pages() -> dict[str, str]:
    files = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8") for file in files}


def blocks(page: str, text: str) -> list[Block]:
    """The indented and fenced blocks of a page."""
    found: list[Block] = []
    held: list[str] = []
    language: str | None = None  # of the fence we are in
    mark: re.Match[str] | None = None
    start = 0
    before = ""
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        fence = re.match(r"```(\w*)", line)
        if language is not None:
            if fence:
                found.append(Block(page, start, language, tuple(held), mark))
                held, language, mark = [], None, None
            else:
                held.append(line)
        elif fence:
            language, start = fence[1] or "text", number + 1
        elif line.startswith("    ") and (held or not before.strip()):
            start = start if held else number
            held.append(line[4:])
        elif held and not line.strip():
            held.append("")
        elif held:
            found.append(Block(page, start, "", tuple(held), mark))
            held, mark = [], MARK.search(line)
        elif line.strip():
            mark = MARK.search(line)
        before = line
    if any(held):
        found.append(Block(page, start, "", tuple(held), mark))
    return found


def commands(block: Block) -> list[Command]:
    """The commands of a block, in order, each with the output shown below it (in console blocks, behind "$ ")."""
    if block.language not in ("", *SHELLS):
        return []
    console = block.language == "console"
    found: list[Command] = []
    text, start, output = "", 0, list[str]()

    def close() -> None:
        if text.split(" ")[0] in PROGRAMS:
            shown = tuple(output) if any(output) else ()
            found.append(Command(block.page, start, text, shown, not_run(block, text), exit_code(block)))

    for number, line in enumerate(block.lines, start=block.number):
        if text.endswith("\\"):
            text = f"{text[:-1].rstrip()} {line.strip()}"
        elif not console or line.startswith("$ "):
            close()
            text, start, output = line.removeprefix("$ ").strip(), number, []
        else:
            output.append(line.rstrip())
    close()
    return found


def not_run(block: Block, text: str) -> str:
    """Why a command of a block is not run, "" if it is."""
    if block.mark is None:
        return ""
    if block.mark["what"] != "not run":
        return "slow" if block.mark["reason"] == "slow" else ""
    verbs = block.mark["verbs"]
    named = verbs is None or [*text.split(), ""][1] in re.split(r",\s*", verbs)
    return block.mark["reason"] if named else ""


def exit_code(block: Block) -> int:
    found = re.fullmatch(r"exit (\d+)", block.mark["reason"]) if block.mark and block.mark["what"] == "run" else None
    return int(found[1]) if found else 0


def inline(text: str) -> list[str]:
    """What stands between single backticks outside blocks."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [re.sub(r"\s+", " ", found) for found in re.findall(r"(?<!`)`([^`]+)`", prose)]


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str = ""

    @property
    def seen(self) -> str:
        """What stays on a reader's terminal: not the progress."""
        said = [line for line in self.err.splitlines() if not PROGRESS.search(line)]
        return "\n".join([self.out.rstrip("\n"), *said])


def prunesim(arguments: list[str]) -> Ended:
    """The command line in this process."""
    from studies.cli.main import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return Ended(code, out.getvalue(), err.getvalue())


def differs(shown: tuple[str, ...], found: str, tolerance: float = 0.02) -> str:
    """The first line of a page's output that the command did not print, "" if there is none. A line "..." stands for
    any lines; numbers may differ by `tolerance`, relative, and blanks by any number."""
    lines = [line for line in found.splitlines() if line.strip()]
    place, skipping = 0, False
    for line in (line for line in shown if line.strip()):
        if line.strip() == "...":
            skipping = True
            continue
        while place < len(lines) and skipping and not alike(line, lines[place], tolerance):
            place += 1
        if place >= len(lines) or not alike(line, lines[place], tolerance):
            return f"{line!r}, not {lines[place]!r}" if place < len(lines) else f"{line!r}, not the end"
        place, skipping = place + 1, False
    return "" if skipping or place == len(lines) else f"the end, not {lines[place]!r}"


def alike(shown: str, found: str, tolerance: float) -> bool:
    if shown.rstrip().endswith(" ..."):
        count = len(shown.split()) - 1
        shown, found = " ".join(shown.split()[:count]), " ".join(found.split()[:count])
    words = [RULE.sub("─", NUMBER.sub("#", " ".join(text.split()))) for text in (shown, found)]
    numbers = [[float(n.replace(",", "")) for n in NUMBER.findall(text)] for text in (shown, found)]
    return words[0] == words[1] and all(abs(a - b) <= tolerance * abs(b) for a, b in zip(*numbers, strict=True))
