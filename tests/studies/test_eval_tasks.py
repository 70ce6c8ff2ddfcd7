"""`prunesim eval --tasks` on a local task folder, offline, against plain computations; and what each mistake is
answered with."""

import json
import math
import random
import re
import socket
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

pytest.importorskip("lm_eval", reason="the extra `eval` is not installed")

from studies import harness_tasks
from studies.cli.main import main
from studies.harness_tasks import TASK_SETS, expand
from tests.studies.task_folder import CHOICE, PAGES, QUESTIONS, Plain, write_folder
from workloads import MaskBundle
from workloads.columns.harness import HARNESS_COLUMNS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "my tasks")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt fails the test, even one whose failure would be passed over."""
    tried: list[object] = []

    def refuse(*arguments: object, **_: object) -> None:
        tried.append(arguments)
        raise OSError(f"the network was tried: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    yield
    assert not tried


def run(*arguments: object) -> int:
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def rows(capsys, *arguments: object) -> list[dict]:
    """What `prunesim eval ... --format json` prints: rows and nothing else."""
    assert run("eval", *arguments, "--format", "json") == 0
    captured = capsys.readouterr()
    assert not re.search(r"it/s|WARNING|INFO|bootstrap", captured.err), captured.err
    return json.loads(captured.out)


def values(found: list[dict]) -> dict[tuple[str, str], float]:
    return {(row["task"], row["metric"]): row["value"] for row in found}


def masks_of(model: Path, out: Path) -> MaskBundle:
    assert run("generate", "--model", model, "--pattern", "2:4", "--seed", 3, "--out", out) == 0
    return MaskBundle.open(out)


@pytest.mark.parametrize("masked", [False, True])
def test_scores_equal_the_plain_ones(masked: bool, folder: Path, tiny_model: Path, tmp_path: Path, capsys) -> None:
    masks = masks_of(tiny_model, tmp_path / "b") if masked else None
    capsys.readouterr()
    asked = [tiny_model, "--tasks", "tiny_choice,tiny_text", "--task-folder", folder]
    found = rows(capsys, *asked, *(["--masks", tmp_path / "b"] if masked else []))
    plain = Plain(tiny_model, masks)
    right = plain.accuracies(QUESTIONS)
    expected = {("tiny_choice", metric): sum(each) / 5 for metric, each in right.items()}
    expected |= {("tiny_text", metric): value for metric, value in plain.perplexities(PAGES, 64).items()}
    assert values(found) == pytest.approx(expected, rel=1e-5)
    for row in found:
        assert list(row) == [column.name for column in HARNESS_COLUMNS]
        assert row["samples"] == (5 if row["task"] == "tiny_choice" else 3)
        assert row["task_version"] == ("3.5" if row["task"] == "tiny_choice" else "")
        assert (row["num_fewshot"], row["limit"], row["seq_len"], row["special_tokens"]) == (0, None, 64, "off")
        assert row["harness_version"].startswith("lm_eval 0.")
        assert (row["method"], row["seed"], row["sparsity"]) == (
            ("generated", 3, 0.5) if masked else ("dense", None, None)
        )
        assert row["masks_sha256"] == (masks.sha256 if masks else "")
    for row, each in zip(found[:2], right.values(), strict=True):  # mean of n shares: sqrt(p (1 - p) / (n - 1))
        share = sum(each) / 5
        assert row["stderr"] == pytest.approx(math.sqrt(share * (1 - share) / 4))
    assert all(row["stderr"] is None for row in found[2:])
    assert len({row["prompts_sha256"] for row in found}) == 2


@pytest.mark.parametrize(
    ("method", "bits"), [("magnitude", None), ("sparsegpt", None), ("magnitude", 4)], ids=["masks", "weights", "4 bits"]
)
def test_a_bundle_scores_as_its_saved_checkpoint(
    method: str, bits: int | None, folder: Path, tiny_model: Path, tmp_path: Path, capsys
) -> None:
    """Also where the method changes surviving weights or quantizes them; and not as the dense model."""
    options = ["--bits", bits, "--group-size", 16] if bits else []
    options += ["--calibration", tiny_model / "ids.npy"] if method == "sparsegpt" else []
    prune = ["prune", tiny_model, "--method", method, "--sparsity", 0.6, *options, "--out", tmp_path / "b"]
    assert run(*prune, "--save-model", tmp_path / "saved") == 0
    capsys.readouterr()
    asked = ["--tasks", "tiny_text", "--task-folder", folder]
    found = rows(capsys, tiny_model, *asked, "--masks", tmp_path / "b")
    assert values(found) == values(rows(capsys, tmp_path / "saved", *asked))
    assert values(found) != values(rows(capsys, tiny_model, *asked))
    assert {(row["method"], row["target_sparsity"], row["weight_bits"]) for row in found} == {(method, 0.6, bits)}


def test_windows_are_as_long_as_asked(folder: Path, tiny_model: Path, capsys) -> None:
    found = rows(capsys, tiny_model, "--tasks", "tiny_text", "--task-folder", folder, "--seq-len", 20)
    expected = Plain(tiny_model).perplexities(PAGES, 20)
    assert {row["metric"]: row["value"] for row in found} == pytest.approx(expected, rel=1e-5)
    assert {row["seq_len"] for row in found} == {20}


def test_solved_examples_and_limit(folder: Path, tiny_model: Path, capsys) -> None:
    """first_n puts the first two of shots.jsonl in front, each with its answer and an empty line behind."""
    asked = [tiny_model, "--tasks", "tiny_choice", "--task-folder", folder, "--limit", 3]
    shots = "".join(f"{q['question']} {q['answers'][q['right']]}\n\n" for q in QUESTIONS[:-3:-1])
    zero, two = rows(capsys, *asked), rows(capsys, *asked, "--num-fewshot", 2)
    for found, prefix, count in ((zero, "", 0), (two, shots, 2)):
        right = Plain(tiny_model).accuracies(QUESTIONS[:3], prefix)
        assert {row["metric"]: row["value"] for row in found} == pytest.approx(
            {m: sum(each) / 3 for m, each in right.items()}
        )
        assert {(row["num_fewshot"], row["limit"], row["samples"]) for row in found} == {(count, 3, 3)}
    assert zero[0]["prompts_sha256"] != two[0]["prompts_sha256"]


def test_examples_are_drawn_by_the_seed(folder: Path, tiny_model: Path, capsys) -> None:
    file = folder / "choice.yaml"
    file.write_text(file.read_text().replace("fewshot_config: {sampler: first_n}\n", ""))
    asked = [tiny_model, "--tasks", "tiny_choice", "--task-folder", folder, "--num-fewshot", 2]
    hashes = [rows(capsys, *asked, "--fewshot-seed", seed)[0]["prompts_sha256"] for seed in (0, 1, 0)]
    assert hashes[0] == hashes[2] != hashes[1]
    assert rows(capsys, *asked, "--fewshot-seed", 1234) == rows(capsys, *asked)


def test_the_same_numbers_whatever_came_before(folder: Path, tiny_model: Path, monkeypatch, capsys) -> None:
    """Threads, torch's own threads and the global random generators do not matter, and are left as they were."""
    seen = []
    for threads in (1, 2, 3):
        monkeypatch.setenv("PRUNESIM_THREADS", str(threads))
        torch.set_num_threads(threads)
        random.seed(threads)
        state = random.getstate()
        asked = [tiny_model, "--tasks", "tiny_choice,tiny_text", "--task-folder", folder, "--limit", 4]
        seen.append(rows(capsys, *asked))
        assert random.getstate() == state
        assert torch.get_num_threads() == threads
    assert seen[0] == seen[1] == seen[2]


def test_special_tokens_are_the_tokenizers_only_when_asked(
    folder: Path, tiny_model: Path, tmp_path: Path, capsys
) -> None:
    """With a tokenizer that adds <s>, "off" scores as the one that does not."""
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    model = tmp_path / "bos"
    AutoModelForCausalLM.from_pretrained(tiny_model).save_pretrained(model)
    inner = AutoTokenizer.from_pretrained(tiny_model).backend_tokenizer
    first = inner.id_to_token(0)
    inner.post_processor = processors.TemplateProcessing(f"{first} $A", special_tokens=[(first, 0)])
    PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=first).save_pretrained(model)
    asked = ["--tasks", "tiny_choice,tiny_text", "--task-folder", folder]
    off, on = rows(capsys, model, *asked), rows(capsys, model, *asked, "--special-tokens", "tokenizer")
    assert values(off) == values(rows(capsys, tiny_model, *asked))
    assert {row["special_tokens"] for row in on} == {"tokenizer"}
    assert values(on)["tiny_text", "word_perplexity"] != values(off)["tiny_text", "word_perplexity"]


def test_groups_and_tags_of_the_folder(folder: Path, tiny_model: Path, capsys, monkeypatch) -> None:
    """A group adds a row of its own, the mean over its members weighted by size; a tag is only a list."""
    monkeypatch.setattr(harness_tasks, "TaskManager", Quick)
    more = CHOICE.format(name="more_choice", data="questions.jsonl") + "process_docs: !function cut.cut\ntag: easy\n"
    (folder / "cut.py").write_text("def cut(docs):\n    return docs.select(range(2))\n")
    (folder / "more.yaml").write_text(more)
    (folder / "broken.py").write_text("import no_such_module\n")
    (folder / "group.yaml").write_text(
        "group: both\ntask: [tiny_choice, more_choice]\n"
        "aggregate_metric_list: [{metric: acc, aggregation: mean, weight_by_size: true}]\nmetadata: {version: 7}\n"
    )
    found = rows(capsys, tiny_model, "--tasks", "both", "--task-folder", folder)
    expected = Plain(tiny_model).accuracies(QUESTIONS)["acc"]
    assert values(found)["more_choice", "acc"] == sum(expected[:2]) / 2
    group = [row for row in found if row["task"] == "both"]
    assert [(row["metric"], row["samples"], row["task_version"]) for row in group] == [("acc", 7, "7")]
    assert group[0]["value"] == pytest.approx((sum(expected) + sum(expected[:2])) / 7)
    assert [row["task"] for row in rows(capsys, tiny_model, "--tasks", "easy", "--task-folder", folder)] == [
        "more_choice"
    ] * 2


def test_the_papers_sets(folder: Path, tiny_model: Path, capsys) -> None:
    """Names of the folder go before lm_eval's own, so that a set works offline."""
    for name in TASK_SETS["wanda-7"]:
        (folder / f"{name}.yaml").write_text(CHOICE.format(name=name, data="questions.jsonl"))
    found = rows(capsys, tiny_model, "--tasks", "wanda-7", "--task-folder", folder, "--limit", 1)
    assert [row["task"] for row in found if row["metric"] == "acc"] == list(TASK_SETS["wanda-7"])
    assert [len(names) for names in TASK_SETS.values()] == [7, 6]
    assert set(TASK_SETS["wanda-7"]) ^ set(TASK_SETS["besa-6"]) == {"rte", "openbookqa", "piqa"}
    assert expand(["piqa", "besa-6", "mine", "piqa"]) == [*TASK_SETS["besa-6"], "mine"]


def test_every_task_of_a_set_is_one_that_lm_eval_has() -> None:
    own = Path(harness_tasks.TaskManager.__init__.__code__.co_filename).parent
    stated = {
        name
        for folder in ("super_glue/boolq", "glue/rte", "hellaswag", "winogrande", "arc", "openbookqa", "piqa")
        for file in (own / folder).glob("*.yaml")
        for name in re.findall(r"^task:\s*(\S+)", file.read_text(), re.M)
    }
    assert set(TASK_SETS["wanda-7"]) | set(TASK_SETS["besa-6"]) <= stated


class Quick(harness_tasks.TaskManager):
    """Without lm_eval's own tasks, whose thousands of files take ten seconds to read."""

    def __init__(self, include_path=None, include_defaults=True):
        super().__init__(include_path=include_path, include_defaults=False)


def refused(capsys, *arguments: object) -> str:
    """The one line that a refused `prunesim eval` leaves on stderr."""
    assert run("eval", *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if line.startswith("prunesim: ")]
    assert len(lines) == 1, captured.err
    assert "Traceback" not in captured.err
    return lines[0]


def test_wrong_options_are_answered_by_one_line(folder: Path, tiny_model: Path, capsys) -> None:
    tasks = ["--tasks", "tiny_choice", "--task-folder", folder]
    text = ["--text", tiny_model / "evaluation.txt", "--seq-len", 64]
    for arguments, what in (
        ([], "give one of --text"),
        ([*tasks, *text], "tiny_choice is none of the tasks made of a text (cloze, continuation); ask for it apart"),
        ([*tasks, "--windows", 3], "--windows has no meaning with --tasks"),
        ([*text, "--limit", 3], "--limit has no meaning with --text"),
        ([*text, "--task-folder", folder], "--task-folder has no meaning"),
        (["--tasks", " , ", "--task-folder", folder], "names no task"),
        ([*tasks, "--limit", 0], "--limit must be at least 1, not 0"),
        ([*tasks, "--num-fewshot", -1], "--num-fewshot must be at least 0, not -1"),
        ([*tasks, "--num-fewshot", 50], "tiny_choice"),
        ([*tasks, "--seq-len", 65], "64"),
        ([*tasks, "--seq-len", 0], "at least 2"),
        ([*tasks, "--special-tokens", "on"], "tokenizer"),
        (["--tasks", "tiny_text", "--task-folder", folder, "--num-fewshot", 2], "takes no solved examples"),
    ):
        assert what in refused(capsys, tiny_model, *arguments), arguments


def test_wrong_tasks_are_answered_by_one_line(
    folder: Path, tiny_model: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(harness_tasks, "TaskManager", Quick)
    (tmp_path / "empty").mkdir()
    for names, place, what in (
        ("tiny_chioce", folder, "unknown task 'tiny_chioce'; nearest: tiny_choice"),
        ("wanda7", folder, "nearest: wanda-7"),
        ("tiny_choice", tmp_path / "no", "no such folder"),
        ("tiny_choice", tmp_path / "empty", "holds no .yaml task files"),
    ):
        assert what in refused(capsys, tiny_model, "--tasks", names, "--task-folder", place)


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (("task: tiny_choice", "task: [tiny_choice"), "choice.yaml is not a readable task file"),
        (("task: tiny_choice", "- a list"), "choice.yaml is not a readable task file"),
        (("task: tiny_choice", "include: base.yaml\ntask: tiny_choice"), "choice.yaml is not a readable task file"),
        (("task: tiny_choice", "task: tiny_text"), "is in "),
        (("questions.jsonl", "answers.jsonl"), "data file answers.jsonl is missing"),
        (("test_split: test", "test_split: validation"), "task tiny_choice cannot be loaded"),
        (("doc_to_target: right", "doc_to_target: wrong}}{{"), "task tiny_choice cannot be loaded"),
        (("output_type: multiple_choice", "output_type: generate_until"), "write text"),
        (("metric: acc,", "metric: ac,"), "unknown metric 'ac'; did you mean 'acc'?"),
        (("metric: acc,", "metric: acc, hf_evaluate: true,"), "runs code from the network"),
        (("test_split: test", "test_split: test\nprocess_docs: !function none.of"), "correct the task file"),
        (("test_split: test", "test_split: test\nunsafe_code: true"), "unsafe"),
        (("test_split: test", "test_split: test\nnum_fewshot: 0"), "takes no solved examples"),
    ],
)
def test_wrong_task_files_are_answered_by_one_line(edit, what, folder: Path, tiny_model: Path, capsys) -> None:
    file = folder / "choice.yaml"
    assert edit[0] in file.read_text()
    file.write_text(file.read_text().replace(*edit))
    name = "tiny_text" if edit[1] == "task: tiny_text" else "tiny_choice"
    assert what in refused(capsys, tiny_model, "--tasks", name, "--task-folder", folder, "--num-fewshot", 1)


@pytest.mark.parametrize(
    ("content", "what"),
    [("", "cannot be loaded"), ("{no json\n", "cannot be loaded"), ('{"other": 1}\n', "cannot be loaded")],
)
def test_wrong_data_are_answered_by_one_line(content: str, what: str, folder: Path, tiny_model: Path, capsys) -> None:
    (folder / "questions.jsonl").write_text(content)
    assert what in refused(capsys, tiny_model, "--tasks", "tiny_choice", "--task-folder", folder)


def test_masks_of_another_model_are_answered_by_one_line(
    folder: Path, tiny_model: Path, tmp_path: Path, capsys
) -> None:
    config = json.loads((tiny_model / "config.json").read_text()) | {"intermediate_size": 64}
    (tmp_path / "config.json").write_text(json.dumps(config))
    masks_of(tmp_path / "config.json", tmp_path / "b")
    capsys.readouterr()
    asked = [tiny_model, "--tasks", "tiny_choice", "--task-folder", folder, "--masks", tmp_path / "b"]
    assert "were the masks made for another model?" in refused(capsys, *asked)
