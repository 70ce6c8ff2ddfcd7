"""Methods, quantizers and allocators as a user meets them on the command line."""

import json
from pathlib import Path

import pytest
import torch

from tests.studies.test_cli import refused, run
from workloads import MaskBundle


def simulated(capsys: pytest.CaptureFixture, bundle: Path) -> list[dict]:
    capsys.readouterr()
    assert run("simulate", bundle, "--on", "vitcod", "--format", "json") == 0
    return json.loads(capsys.readouterr().out)


def perplexity(capsys: pytest.CaptureFixture, *arguments: object) -> float:
    capsys.readouterr()
    assert run("eval", *arguments, "--seq-len", 16, "--windows", 4, "--format", "json") == 0
    return json.loads(capsys.readouterr().out)[0]["perplexity"]


@pytest.mark.parametrize(
    "settings",
    [
        ["--method", "sparsegpt", "--sparsity", "0.5"],
        ["--method", "besa", "--sparsity", "0.5", "--set", "granularity=row"],
        ["--method", "gblm", "--sparsity", "0.5", "--set", "scaling=released", "norm=l2"],
        ["--method", "none", "--bits", "4", "--group-size", "8", "--quantizer", "awq"],
        ["--method", "besa", "--pattern", "2:4", "--bits", "4", "--group-size", "16"],
        ["--method", "wanda", "--sparsity", "0.6", "--allocation", "owl", "--set", "allocation.m=3"],
    ],
    ids=lambda settings: " ".join(settings[1:4]),
)
def test_the_bundle_and_the_saved_checkpoint_have_one_perplexity(settings, tmp_path, capsys, tiny_model):
    arguments = ["prune", tiny_model, *settings, "--out", tmp_path / "masks", "--save-model", tmp_path / "saved"]
    assert run(*arguments, "--calibration", tiny_model / "ids.npy") == 0
    assert run("check", tmp_path / "masks") == 0
    text = ["--text", tiny_model / "evaluation.txt"]
    with_masks = perplexity(capsys, tiny_model, "--masks", tmp_path / "masks", *text)
    assert with_masks == perplexity(capsys, tmp_path / "saved", *text)
    assert with_masks != perplexity(capsys, tiny_model, *text)


@pytest.mark.parametrize("group_size", [0, 16])
def test_a_packed_checkpoint_loads_to_the_same_logits(group_size, tmp_path, tiny_model):
    pytest.importorskip("compressed_tensors", reason="the extra `packed` is not installed")
    from transformers import AutoModelForCausalLM

    common = ["prune", tiny_model, "--method", "wanda", "--sparsity", "0.5", "--bits", "4", "--group-size", group_size]
    common += ["--calibration", tiny_model / "ids.npy"]
    assert run(*common, "--out", tmp_path / "a", "--save-model", tmp_path / "dense") == 0
    packed = ["--out", tmp_path / "b", "--save-model", tmp_path / "packed", "--save-format", "packed"]
    assert run(*common, *packed) == 0
    ids = torch.arange(3, 40)[None]
    logits = [AutoModelForCausalLM.from_pretrained(tmp_path / n)(input_ids=ids).logits for n in ("dense", "packed")]
    assert torch.equal(*logits)


def test_the_simulator_charges_4_bit_weights_as_4_bits(tmp_path, capsys, tiny_model):
    """The same masks with 8-bit and with 4-bit values: twice and once nnz / 2 bytes."""
    for bits in (8, 4):
        arguments = ["prune", tiny_model, "--method", "magnitude", "--rule", "row", "--sparsity", "0.5", "--bits", bits]
        assert run(*arguments, "--out", tmp_path / str(bits)) == 0
    eight, four = simulated(capsys, tmp_path / "8"), simulated(capsys, tmp_path / "4")
    assert [row["mask_sha256"] for row in eight] == [row["mask_sha256"] for row in four]
    for wide, narrow in zip(eight, four, strict=True):
        assert (wide["weight_bits"], narrow["weight_bits"]) == (8, 4)
        assert narrow["weight_bytes"] < wide["weight_bytes"]
        assert narrow["cycles"] <= wide["cycles"]
    assert {entry.weight_bits for entry in MaskBundle.open(tmp_path / "4").layers} == {4}


def test_what_cannot_be_is_told_in_one_line(tmp_path, capsys, tiny_model):
    def said(*arguments: object) -> str:
        return refused(capsys, "prune", tiny_model, "--out", tmp_path / "o", *arguments)

    half = ("--sparsity", 0.5)
    besa = ("--method", "besa", "--sparsity", 0.7)
    assert "within [0.376, 0.624]" in said(
        *besa, "--set", "optimizer=prodigy", "--set", "coefficients=sigmoid", "--calibration", "x.txt"
    )
    assert "belongs to optimizer=prodigy" in said(*besa, "--set", "coefficients=softmax", "--calibration", "x.txt")
    assert "besa has no parameter 'grains'" in said(*besa, "--set", "grains=row")
    assert "granularity = 'column'" in said(*besa, "--set", "granularity=column")
    assert "besa needs --calibration" in said(*besa)
    assert "prunes nothing; say how to quantize" in said("--method", "none")
    assert "prunes nothing; leave --sparsity" in said("--method", "none", "--bits", 4, *half)
    assert "--bits must be 2 to 8, not 1" in said("--method", "none", "--bits", 1)
    assert "did you mean 'gptq'?" in said("--method", "none", "--bits", 4, "--quantizer", "gpt")
    assert "the quantizer gptq needs --calibration" in said("--method", "none", "--bits", 4, "--quantizer", "gptq")
    assert "no meaning without --bits" in said("--method", "magnitude", *half, "--quantizer", "rtn")
    assert "no meaning without --bits" in said("--method", "magnitude", *half, "--group-size", 8)
    assert "it cannot be -1" in said("--method", "magnitude", *half, "--bits", 4, "--group-size", -1)
    group = said("--method", "magnitude", *half, "--bits", 4, "--group-size", 32)
    assert "--group-size 32 does not divide its 48 inputs" in group
    assert "did you mean 'owl'?" in said("--method", "magnitude", *half, "--allocation", "ow")
    assert "leaves nothing to allocate" in said(
        "--method", "magnitude", *half, "--rule", "global", "--allocation", "er"
    )
    first = ("--set", "quantizer.order=quantize-first")
    assert "would lose that" in said("--method", "sparsegpt", *half, "--bits", 4, *first)
    assert "--seed must not be negative, it is -1" in said("--method", "magnitude", *half, "--seed", -1)
    packed = ("--save-model", tmp_path / "p", "--save-format", "packed")
    assert "say how many bits" in said("--method", "magnitude", *half, *packed)
    assert "needs a folder: --save-model" in said(
        "--method", "magnitude", *half, "--bits", 4, "--save-format", "packed"
    )
    awq = ("--method", "none", "--bits", 4, "--quantizer", "awq", "--calibration", tiny_model / "ids.npy")
    assert "AWQ scales its inputs" in said(*awq, *packed)
    assert not (tmp_path / "p").exists()
    assert "unknown --save-format 'zip'" in said("--method", "magnitude", *half, "--save-format", "zip")
    assert "no device 'cuda'" in said("--method", "magnitude", *half, "--device", "cuda") or torch.cuda.is_available()
    assert "unknown device 'gpu9'" in said("--method", "magnitude", *half, "--device", "gpu9")
    blocks = (
        "--method",
        "sparsegpt",
        "--pattern",
        "2:4",
        "--set",
        "blocksize=6",
        "--calibration",
        tiny_model / "ids.npy",
    )
    assert "blocksize 6 splits runs of 4" in said(*blocks)
    for damping in ("0", "-1", "nan"):
        assert "damping" in said("--method", "sparsegpt", *half, "--set", f"damping={damping}")
    assert not (tmp_path / "o" / "bundle.json").exists()


@pytest.mark.parametrize("name", ["gblm", "sparsegpt", "besa", "none", "gptq", "lwc", "awq", "rtn", "owl", "alpha"])
def test_show_says_what_can_be_set(name, capsys):
    assert run("show", name) == 0
    said = capsys.readouterr().out
    assert "Parameters (--set key=value):" in said
    prefix = {"gptq": "quantizer.", "lwc": "quantizer.", "awq": "quantizer.", "rtn": "quantizer.", "owl": "allocation.",
              "alpha": "allocation."}.get(name, "")  # fmt: skip
    keys = [line.split(" = ")[0].strip() for line in said.splitlines() if line.startswith("  ") and " = " in line]
    assert all(key.startswith(prefix) for key in keys if "." in key)


def test_a_report_of_perplexities_alone(tmp_path, capsys, tiny_model):
    text = ["--text", tiny_model / "evaluation.txt", "--seq-len", 16, "--windows", 4, "--format", "json"]
    assert run("eval", tiny_model, *text, "--out", tmp_path / "q.json") == 0
    assert run("report", "--quality", tmp_path / "q.json", "--out", tmp_path / "report") == 0
    assert "Perplexity" in (tmp_path / "report" / "report.html").read_text()
