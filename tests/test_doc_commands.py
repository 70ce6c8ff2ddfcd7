"""Every command in README.md and docs/ is run, or its block says why not (tests/documents.py has the words); none has a
verb or an option that is not there. MODEL, train.txt, masks/ ... are real ones here, tiny; calibration's defaults are
cut to 4 x 64 tokens."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pruning.data import calibration
from studies.cli.main import VERBS
from tests.documents import ROOT, Command, Ended, blocks, commands, differs, inline, pages, prunesim

PAGES = pages()
BLOCKS = {page: blocks(page, text) for page, text in PAGES.items()}
COMMANDS = {page: [command for block in found for command in commands(block)] for page, found in BLOCKS.items()}
README_NOT_RUN = {  # by their beginning; README has no marks
    "prunesim run": "minutes; its study is read",
    "prunesim measure": "needs a GPU",
}
OF_OTHER_PROGRAMS = frozenset(  # the campaigns, benchmarks, SparseGPT's script
    [
        "--every-seed",
        "--show",
        "--of-all",
        "--hidden",
        "--ffn",
        "--help",
        "--blocks",
        "--train",
        "--test",
        "--work",
        "--models",
        "--keep-masks",
        "--page",
        "--measure",
        "--recover",
        "--gradient-samples",
        "--seed",
        "--seeds",
        "--parts",
        "--released",
        "--write",
        "--tries",
        "--methods",
        "--first",
        "--folder",
        "--verbose",
        "--published",
        "--big",
        "--minlayer",
        "--maxlayer",
        "--prune_only",
    ]
)
DEMO = ROOT / "examples" / "demo-model"
SHAPE = {
    "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 64, "max_position_embeddings": 2048, "vocab_size": 4096, "dtype": "float32",
}  # fmt: skip


def why_not(command: Command) -> str:
    if command.not_run == "slow" and os.environ.get("PRUNESIM_SLOW_DOCS"):
        return ""
    known = README_NOT_RUN if command.page == "README.md" else {}
    return command.not_run or next((why for start, why in known.items() if command.text.startswith(start)), "")


def checked(words: list[str]) -> None:
    """As a reader would type it: exit code 0."""
    ended = prunesim(words)
    assert ended.code == 0, f"prunesim {' '.join(words)}: {ended.err[-600:]}"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the documents' commands take for granted."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    folder = tmp_path_factory.mktemp("documents")
    torch.manual_seed(0)
    config = LlamaConfig(**(json.loads((DEMO / "config.json").read_text()) | SHAPE))
    AutoModelForCausalLM.from_config(config).save_pretrained(folder / "MODEL")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(DEMO / name, folder / "MODEL")
    for name, text in (("train.txt", "calibration.txt"), ("test.txt", "evaluation.txt")):
        (folder / name).write_text((DEMO / text).read_text()[:40_000])
    for name in ("examples", "benchmarks", "docs", "Makefile"):
        (folder / name).symlink_to(ROOT / name)
    make_arrays(folder)
    old = Path.cwd()
    os.chdir(folder)
    try:
        checked(["generate", "--model", "MODEL", "--pattern", "2:4", "--out", "masks"])
        checked(
            [
                "prune",
                "MODEL",
                "--method",
                "magnitude",
                "--sparsity",
                "0.5",
                "--out",
                "x",
                "--save-model",
                "sparse-checkpoint",
            ]
        )
        checked(["simulate", "masks", "--on", "vitcod", "--format", "csv", "--out", "rows.csv"])
        shutil.rmtree("x")
    finally:
        os.chdir(old)
    return folder


def make_arrays(folder: Path) -> None:
    draw = np.random.default_rng(0)
    sides = SHAPE["hidden_size"], SHAPE["intermediate_size"]
    parts = {"self_attn.q_proj": (sides[0], sides[0]), "mlp.gate_proj": (sides[1], sides[0]), "mlp.down_proj": sides}
    masks = {f"model.layers.{b}.{part}": draw.random(shape) < 0.4 for b in range(2) for part, shape in parts.items()}
    np.savez(folder / "masks.npz", **masks)
    (folder / "my-masks").mkdir()
    for name, mask in masks.items():
        np.save(folder / "my-masks" / f"{name}.npy", mask)
    np.save(folder / "mask.npy", draw.random((64, 96)) < 0.5)
    np.save(folder / "MASKS.npy", draw.random((2, 3, 24, 24)) < 0.7)
    (folder / "gemms.csv").write_text("m,n,k\n2048,4096,4096\n16,4096,11008\n")
    (folder / "operators.csv").write_text(
        "operation,tokens,cols,gpus,message_bytes\nrmsnorm,16,4096,,\nall_reduce,,,8,65536\n"
    )


@pytest.mark.parametrize(
    "page", [page for page in PAGES if COMMANDS[page] or any(b.language == "python" for b in BLOCKS[page])]
)
def test_commands_run(page: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "reader"
    shutil.copytree(prepared, folder, symlinks=True)
    monkeypatch.chdir(folder)
    if "/tutorials/" not in page:
        monkeypatch.setattr(calibration, "DEFAULT_SAMPLES", 4)
        monkeypatch.setattr(calibration, "DEFAULT_SEQ_LEN", 64)
    for block in BLOCKS[page]:
        if block.file:
            Path(block.file).write_text("\n".join(block.lines) + "\n")
        for command in commands(block):
            if not why_not(command):
                run(command)
        if block.language == "python" and not block.mark:
            exec(compile("\n".join(block.lines), f"{page}:{block.number}", "exec"), {"__name__": "__page__"})


def run(command: Command) -> None:
    words = command.words
    if words[0] == "make":
        assert re.search(rf"^{command.verb}:", (ROOT / "Makefile").read_text(), re.MULTILINE), (
            f"{command}: no such target"
        )
        return
    if words[0] == "python":
        ended = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, check=False)
        found = Ended(ended.returncode, ended.stdout, ended.stderr)
    else:
        for option, value in pairwise(words):
            if option in ("--out", "--save-model"):  # every command is given as if its output were new
                shutil.rmtree(value, ignore_errors=True)
        found = prunesim(words[1:])
    assert found.code == command.code, f"{command}\nends with {found.code}: {found.err[-600:]}"
    if command.output:
        assert not (said := differs(command.output, found.seen)), f"{command}\nthe page shows {said}"


@cache
def options_of(verb: str) -> frozenset[str]:
    """From the verb's own help."""
    return frozenset(re.findall(r"(?<![\w-])--[a-z][\w-]*", prunesim([verb, "--help"]).out))


@pytest.mark.parametrize("page", PAGES)
def test_verbs_and_options_exist(page: str) -> None:
    """Of every command, those that are not run and those within sentences too."""
    for text in [command.text for command in COMMANDS[page]] + inline(PAGES[page]):
        if not text.startswith("prunesim "):
            continue
        words = text.split()
        if words[1].startswith("-") or words[1].isupper():  # `prunesim --help`, `prunesim VERB`
            continue
        assert words[1] in VERBS, f"{page}: {text}"
        for word in words[2:]:
            if word == "#":
                break
            if re.match(r"--[a-z]", word):
                assert word.partition("=")[0] in options_of(words[1]), f"{page}: {text}: {word}"


@pytest.mark.parametrize("page", PAGES)
def test_options_in_sentences_exist(page: str) -> None:
    known = OF_OTHER_PROGRAMS.union(*(options_of(verb) for verb in VERBS))
    for text in inline(PAGES[page]):
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", text):
            assert option in known, f"{page}: `{text}`"


@pytest.mark.parametrize("page", PAGES)
def test_settings_files_it_shows_can_be_read(page: str) -> None:
    for block in BLOCKS[page]:
        if block.language == "toml":
            tomllib.loads("\n".join(block.lines))


@pytest.mark.parametrize("page", PAGES)
def test_study_and_program_files_exist(page: str) -> None:
    from studies.study import read_study

    for command in COMMANDS[page]:
        for word in command.words:
            if word.startswith(("examples/", "benchmarks/")):
                assert (ROOT / word.partition(":")[0]).exists(), str(command)  # file.py:Name
                if command.verb == "run" and word.endswith(".toml"):
                    read_study(ROOT / word)


def page_of(text: str) -> list[Command]:
    return [command for block in blocks("a.md", text) for command in commands(block)]


def test_marks_and_blocks_are_read() -> None:
    text = """Words.

<!-- not run (measure): needs a GPU -->

    prunesim ls          # what there is
    prunesim measure \\
        --out x

<!-- not run: minutes -->
```bash
make demo
```

```console
$ prunesim ls
a 1.50x

$ python -c ''
```

    an indented figure, prunesim or not
"""
    found = page_of(text)
    assert [(c.number, c.words, c.not_run) for c in found] == [
        (5, ["prunesim", "ls"], ""),
        (6, ["prunesim", "measure", "--out", "x"], "needs a GPU"),
        (11, ["make", "demo"], "minutes"),
        (15, ["prunesim", "ls"], ""),
        (18, ["python", "-c", ""], ""),
    ]
    assert [c.output for c in found] == [(), (), (), ("a 1.50x", ""), ()]
    assert [b.language for b in blocks("a.md", text)] == ["", "bash", "console", ""]


def test_exit_codes_and_files_are_read() -> None:
    text = (
        "<!-- run: exit 2 -->\n```console\n$ prunesim ls nothing\nprunesim: unknown\n```\n<!-- file: "
        "a.toml -->\n```toml\nx = 1\n```\n"
    )
    assert [(c.code, c.not_run, c.output) for c in page_of(text)] == [(2, "", ("prunesim: unknown",))]
    assert [block.file for block in blocks("a.md", text)] == ["", "a.toml"]


def test_a_wrong_command_is_seen(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(prepared)
    for text in (
        "prunesim simulate masks/ --on vitcot",
        "prunesim simulate masks/ --on vitcod --token 1",
        "make everything",
    ):
        [command] = page_of(f"\n    {text}\n")
        with pytest.raises(AssertionError, match=re.escape(text)):
            run(command)


@pytest.mark.parametrize(
    ("shown", "same"),
    [
        ("a 1.50x |  7,040 b", True),
        ("a 1.51x | 7,000 b", True),
        ("a 1.60x | 7,040 b", False),
        ("c 1.50x | 7,040 b", False),
        ("", False),
        ("...", True),
        ("...\na 1.5x | 7040 b", True),
        ("a 1.5x | 7040 b\nmore", False),
    ],
)
def test_shown_output_is_compared(shown: str, same: bool) -> None:
    assert (differs(tuple(shown.splitlines()), "a 1.50x | 7,040 b\n") == "") == same


def test_a_mark_belongs_to_the_block_below_it_alone() -> None:
    assert page_of("<!-- not run: minutes -->\n\nWords.\n\n    prunesim ls\n")[0].not_run == ""
