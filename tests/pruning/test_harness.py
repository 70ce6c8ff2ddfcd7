"""Log-likelihoods as lm_eval asks for them, against the whole model loaded by transformers and a softmax by hand."""

import importlib
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import block_linears, find_blocks
from checkpoints.prunable import all_refs
from validation.conformance.tiny_models import build, load_whole, quiet, save, save_tokenizer
from workloads.bundle import BundleHeader, MaskBundle
from workloads.bundle_writer import BundleWriter
from workloads.errors import UserError
from workloads.mask import PackedMask

BOS = 1
CONTEXT = 16  # tokens the models of these tests are given


def test_without_lm_eval_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        name for name in sys.modules if name.partition(".")[0] == "lm_eval" or name == "pruning.evaluation.harness"
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UserError, match=r"pip install 'prunesim\[eval\]'") as refusal:
        importlib.import_module("pruning.evaluation.harness")
    assert "\n" not in str(refusal.value)


pytest.importorskip("lm_eval", reason="the extra `eval` is not installed")
from pruning.data.tokenizer import load_tokenizer  # noqa: E402
from pruning.evaluation import harness  # noqa: E402
from pruning.evaluation.harness import HarnessModel, longest_context  # noqa: E402
from pruning.evaluation.whole_model import whole_model  # noqa: E402


def ids_of(text: str) -> list[int]:
    """The ids that validation.conformance.tiny_models.save_tokenizer gives, without special tokens."""
    return [3 + "abcdefghijklmnopqrstuvwxyz0123456789 .,!?\n".index(letter) for letter in text]


def make(folder: Path, masks: MaskBundle | None = None, special_tokens: bool = False, progress=quiet) -> HarnessModel:
    checkpoint = Checkpoint(folder)
    return HarnessModel(
        whole_model(checkpoint, masks), load_tokenizer(checkpoint.folder), CONTEXT, special_tokens, progress
    )


def pairs(*texts: tuple[str, str]) -> list[SimpleNamespace]:
    return [SimpleNamespace(args=pair, task_name="t") for pair in texts]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = save("llama", tmp_path_factory.mktemp("harness") / "model")
    save_tokenizer(path)
    return path


def half_masked(model: Path, out: Path) -> MaskBundle:
    """Random masks for every matrix; every second one has weights of its own, too."""
    rng, writer = np.random.default_rng(0), BundleWriter(out, BundleHeader("m", "hand-made"))
    for number, ref in enumerate(ref for block in all_refs(Checkpoint(model)) for ref in block):
        keep = rng.random(ref.layer.shape) < 0.5
        weight = np.where(keep, rng.normal(0, 0.15, ref.layer.shape), 0).astype(np.float32)
        values = {"float32": weight} if number % 2 else None
        writer.add(ref.layer, PackedMask.from_dense(keep), "unstructured", values=values)
    return writer.finish()


@torch.no_grad()
def plain(folder: Path, context: Sequence[int], answer: Sequence[int], masks: MaskBundle | None = None):
    """(log-likelihood, greedy) of an answer, one token after the other, by softmax in float64."""
    model = load_whole(folder)
    path, blocks = find_blocks(model)
    for number, block in enumerate(blocks):
        for ref in block_linears(block, f"{path}.{number}", number) if masks else ():
            changed = masks.values(ref.layer.name).get("float32")
            if changed is not None:
                ref.matrix(block).copy_(torch.from_numpy(changed))
            ref.matrix(block).mul_(torch.from_numpy(masks[ref.layer.name].to_dense()))
    total, greedy, seen = 0.0, True, list(context)
    for token in answer:
        chances = model(input_ids=torch.tensor([seen])).logits[0, -1].double().softmax(dim=-1)
        total += math.log(chances[token])
        greedy = greedy and int(chances.argmax()) == token
        seen.append(token)
    return total, greedy


@pytest.mark.parametrize(
    "family",
    ["llama", "llama-tied", "gemma2", "gpt2", "mixtral", "qwen2_moe", "bloom", "gpt_oss", "opt-projected", "phi3"],
)
def test_answers_equal_the_plain_ones(family: str, tmp_path: Path) -> None:
    save(family, tmp_path / "model", shard_size="30KB")
    save_tokenizer(tmp_path / "model")
    bundle = half_masked(tmp_path / "model", tmp_path / "masks")
    asked = [("a cat", " sat"), ("a cat", " ran"), ("which one?", " b"), ("which one?", " a"), ("dogs", " do bark.")]
    found = {}
    for masks in (None, bundle):
        found[masks] = make(tmp_path / "model", masks).loglikelihood(pairs(*asked))
        for (context, answer), (loglikelihood, greedy) in zip(asked, found[masks], strict=True):
            expected = plain(tmp_path / "model", ids_of(context), ids_of(answer), masks)
            assert loglikelihood == pytest.approx(expected[0], rel=1e-5)
            assert greedy == expected[1]
    assert found[None] != found[bundle]


def test_an_answer_of_the_likeliest_tokens_is_greedy(folder: Path) -> None:
    model, seen = load_whole(folder), ids_of("a cat")
    for _ in range(3):
        seen.append(int(model(input_ids=torch.tensor([seen])).logits[0, -1].argmax()))
    lm = make(folder)
    for answer, expected in ((seen[5:], True), ([*seen[5:7], (seen[7] + 1) % 64], False)):
        ((loglikelihood, greedy),) = lm._loglikelihood_tokens([(None, seen[:5], answer)])
        assert greedy is expected
        assert loglikelihood == pytest.approx(plain(folder, seen[:5], answer)[0], rel=1e-5)


@pytest.mark.parametrize("length", [0, 1, CONTEXT - 1, CONTEXT, CONTEXT + 1, 3 * CONTEXT, 3 * CONTEXT + 5])
def test_every_token_of_a_text_is_predicted_once(length: int, folder: Path) -> None:
    """The first window starts behind BOS; each later one has as much context as fits, for the tokens not yet
    predicted."""
    text = ("the cat sat on the mat and saw a dog. " * 3)[:length]
    ids, expected, done = ids_of(text), 0.0, 0
    while done < length:
        end = min(done + CONTEXT, length)
        known = ids[max(0, end - CONTEXT - 1) : done] if done else [BOS]
        expected += plain(folder, known, ids[done:end])[0]
        done = end
    found = make(folder).loglikelihood_rolling([SimpleNamespace(args=(text,)), SimpleNamespace(args=("a dog",))])
    assert found[0] == pytest.approx(expected, rel=1e-5)
    assert found[1] == pytest.approx(plain(folder, [BOS], ids_of("a dog"))[0], rel=1e-5)


def test_special_tokens_are_left_out_unless_asked_for(folder: Path) -> None:
    """<s> in front of a context only by the tokenizer's policy, in front of nothing always, and never twice."""
    context, answer = ids_of("a cat"), ids_of(" sat")
    ((off, _),) = make(folder).loglikelihood(pairs(("a cat", " sat")))
    lm = make(folder, special_tokens=True)
    (on, _), (written, _), (alone, _) = lm.loglikelihood(pairs(("a cat", " sat"), ("<s>a cat", " sat"), ("", "a cat")))
    assert off == pytest.approx(plain(folder, context, answer)[0], rel=1e-5)
    assert on == pytest.approx(plain(folder, [BOS, *context], answer)[0], rel=1e-5)
    assert written == on != off
    assert alone == pytest.approx(plain(folder, [BOS], context)[0], rel=1e-5)
    for context in ("", " "):  # lm_eval moves spaces at the end of a context to the answer
        ((empty, _),) = make(folder).loglikelihood(pairs((context, "a cat")))
        assert empty == pytest.approx(plain(folder, [BOS], ids_of(context + "a cat"))[0], rel=1e-5)


def test_a_context_that_is_too_long_loses_its_first_tokens(folder: Path) -> None:
    lm, text = make(folder), "abcdefghijklmnopqrstuvwxyz"
    ((fits, _),) = lm.loglikelihood(pairs((text[-CONTEXT:], "a")))
    assert lm.truncated == 0
    (cut, _), _ = lm.loglikelihood(pairs((text, "a"), ("abc", "a")))
    assert lm.truncated == 1
    assert cut == fits


def test_answers_that_differ_in_their_last_token_share_a_forward_pass(folder: Path) -> None:
    lm, shapes = make(folder), []
    lm.model.register_forward_hook(
        lambda model, args, kwargs, output: shapes.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    asked = [("which?", "a"), ("which?", "b"), ("which?", "c"), ("what?", "cat"), ("what?", "car"), ("what?", "dog")]
    together = lm.loglikelihood(pairs(*asked))
    assert shapes == [(1, 7), (1, 7), (1, 6)]
    assert together == [lm.loglikelihood(pairs(pair))[0] for pair in asked]


def test_the_same_bits_with_any_number_of_threads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = pairs(*((f"number {n}" * (1 + n % 3), f" is {n * n}") for n in range(40)))
    seen, counts = set(), []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("PRUNESIM_THREADS", threads)
        lm = make(folder, progress=lambda what, done, of: counts.append((done, of)))
        seen.add(tuple(lm.loglikelihood(asked)))
    assert len(seen) == 1
    assert counts[0] == (0, 40)
    assert counts == sorted(counts[: len(counts) // 3]) * 3


def test_threads_never_run_sequences_of_different_lengths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rotary tables of longrope and dynamic models are set in place by the sequence in hand."""
    monkeypatch.setenv("PRUNESIM_THREADS", "4")
    lm, running, together = make(folder), [], []

    def enter(model, args, kwargs) -> None:
        running.append(kwargs["input_ids"].shape[1])
        time.sleep(0.005)  # so that others come in meanwhile
        together.append(tuple(running))

    lm.model.register_forward_pre_hook(enter, with_kwargs=True)
    lm.model.register_forward_hook(lambda model, args, output: running.remove(output.logits.shape[1]))
    lm.loglikelihood(pairs(*(("abcdefghij"[: 1 + n % 5], f"{n}a") for n in range(40))))
    assert max(map(len, together)) > 1
    assert all(len(set(lengths)) == 1 for lengths in together)


def test_long_windows_are_summed_in_pieces(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = [SimpleNamespace(args=("the cat sat on the mat and saw a dog",))]
    whole = make(folder).loglikelihood_rolling(request)
    monkeypatch.setattr(harness, "LOGIT_ROWS", 3)
    assert make(folder).loglikelihood_rolling(request) == pytest.approx(whole, rel=1e-7)


def test_a_model_that_overflows_is_an_error(tmp_path: Path) -> None:
    """An argmax over NaN would be an answer like any other."""
    model = build("llama")
    model.get_parameter("model.layers.1.mlp.up_proj.weight")[5, 7] = float("nan")
    model.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    with pytest.raises(UserError, match="a log-likelihood is nan"):
        make(tmp_path).loglikelihood(pairs(("a", "b")))


def test_what_cannot_be_scored_is_refused(folder: Path, tmp_path: Path) -> None:
    lm = make(folder)
    with pytest.raises(UserError, match=r"'abcabc.* has 18 tokens, the context is 16"):
        lm.loglikelihood(pairs(("a", "abc" * 6)))
    with pytest.raises(UserError, match="has no token of its own"):
        lm.loglikelihood(pairs(("a", "")))
    with pytest.raises(UserError, match="task t has the model write text"):
        lm.generate_until(pairs(("a", "")))
    assert lm.vocabulary == 64
    lm.vocabulary = 20
    with pytest.raises(UserError, match="gives id 28, the model knows 20"):
        lm.loglikelihood(pairs(("a", "z")))
    with pytest.raises(UserError, match="has no usable tokenizer"):
        load_tokenizer(save("llama", tmp_path / "bare"), "tasks are texts and need one")


def test_the_context_is_the_models_own_unless_asked(folder: Path, tmp_path: Path) -> None:
    assert longest_context(Checkpoint(folder), None) == 64
    assert longest_context(Checkpoint(folder), 12) == 12
    assert longest_context(Checkpoint(save("bloom", tmp_path / "bloom")), None) == 2048
    assert longest_context(Checkpoint(tmp_path / "bloom"), 4096) == 4096
    for wrong, what in ((65, "takes 64 tokens"), (1, "at least 2")):
        with pytest.raises(UserError, match=what):
            longest_context(Checkpoint(folder), wrong)


def test_without_bos_and_eos_an_empty_context_is_an_error(tmp_path: Path) -> None:
    save("llama", tmp_path / "m", bos_token_id=5)
    save_tokenizer(tmp_path / "m")
    lm = make(tmp_path / "m")
    lm.tokenizer.bos_token = None
    assert lm.prefix_token_id == 5
    lm.model.config.bos_token_id = None
    assert lm.prefix_token_id == 2
    lm.model.config.eos_token_id = None
    with pytest.raises(UserError, match="neither the tokenizer nor"):
        lm.loglikelihood(pairs(("", "a")))


@pytest.mark.parametrize("special_tokens", [False, True])
def test_the_same_as_lm_evals_own_model_class(special_tokens: bool, folder: Path) -> None:
    pytest.importorskip("accelerate", reason="lm_eval's HFLM needs accelerate")
    from lm_eval.models.huggingface import HFLM

    tokenizer = load_tokenizer(folder)
    theirs = HFLM(
        pretrained=load_whole(folder),
        tokenizer=tokenizer,
        max_length=CONTEXT,
        batch_size=3,
        add_bos_token=special_tokens,
    )
    ours = make(folder, special_tokens=special_tokens)
    asked = pairs(
        ("a cat", " sat"), ("a cat", " ran"), ("", "a cat"), ("a dog ", "ran"), ("abcdefghijklmnopqrstuvwxyz", " a"),
        ("yes?", " y"), ("yes?", " n"),
    )  # fmt: skip
    for (one, greedy), (other, their_greedy) in zip(
        ours.loglikelihood(asked), theirs.loglikelihood(asked), strict=True
    ):
        assert one == pytest.approx(other, rel=1e-5)
        assert greedy == their_greedy
    texts = [SimpleNamespace(args=("the cat sat on the mat. " * n,)) for n in (1, 2, 3)]
    assert ours.loglikelihood_rolling(texts) == pytest.approx(theirs.loglikelihood_rolling(texts), rel=1e-5)
