"""Records that ship: what they are, that they are the published figures, and what is looked up in them."""

import io
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from measurement import published_models, published_operators
from measurement.layer_facts import shape_alone
from measurement.lookup import as_measured, nearest, rows_for
from measurement.published import FOLDER, is_record, names, open_record, source_of
from measurement.records import read_record, write_record
from measurement.rows import RecordTarget
from studies.records import check_record
from tests.documents import ROOT
from tests.measurement.test_verb import refused, run
from workloads.errors import UserError
from workloads.rows import to_frame

A100 = "slidesparse-a100-pcie"
DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="module")
def a100() -> RecordTarget:
    return RecordTarget(open_record(A100), "cold")


@pytest.mark.parametrize("name", names())
def test_each_says_whose_it_is_and_notice_names_it(name):
    record = open_record(name)
    source = source_of(record)
    assert source is not None
    assert source.licence in ("Apache-2.0", "MIT")
    assert len(record.situations) == 1
    assert record.frame["feasible"].all()
    notice = (ROOT / "NOTICE").read_text()
    commit = re.search(r"@(\w+)", source.citation)[1]
    assert f"{name.partition('-')[0]}-*.csv.gz" in notice
    assert commit in notice
    assert source.licence.split("-")[0] in notice


HOLDERS = {  # as the licence files of the repositories have it, or their files' heads
    "bcacdwk/vllmbench": "contributors to the vLLM project",
    "ai-dynamo/aiconfigurator": "2025-2026 NVIDIA CORPORATION & AFFILIATES",
    "NVIDIA/TensorRT-LLM": "2011-2025 NVIDIA CORPORATION & AFFILIATES",
    "vlejd/macko_spmv": "2025 GrizzlyTech s.r.o.",
    "Mutinifni/splitwise-sim": "2024 Pratyush Patel",
    "meta-pytorch/gpt-fast": "2023 Meta",
    "microsoft/vidur": "Microsoft Corporation",
    "casys-kaist/LLMServingSim": "2024, CASYS Lab at KAIST",
    "PrincetonUniversity/LLMCompass": "2024, Princeton University",
}
TEXTS = {"Apache-2.0": "TERMS AND CONDITIONS FOR USE", "MIT": "Permission is hereby granted, free of charge",
         "BSD-3-Clause": "Neither the name of the copyright holder"}  # fmt: skip


def test_notice_has_the_holder_and_the_licence_of_every_source():
    """Both of each, in each place that the repository is named, in front of the next repository."""
    notice = " ".join((ROOT / "NOTICE").read_text().split())
    texts = notice + (ROOT / "LICENSES" / "Apache-2.0.txt").read_text()
    records = [source for name in names() if (source := source_of(open_record(name)))]
    sources = [*records, *published_models.SOURCES.values(), *published_operators.SOURCES.values()]
    named = {repository: source for source in sources for repository in HOLDERS if repository in source.citation}
    assert set(named) == set(HOLDERS)
    assert all(TEXTS[source.licence] in texts for source in sources)
    for repository, holder in HOLDERS.items():
        (_, *after) = notice.split(f"{repository}, ")
        assert after, repository
        for part in after:
            said = part.split("Changed: ")[0]
            said = re.split(rf"\b(?:{'|'.join(map(re.escape, HOLDERS))}), ", said)[0]
            assert re.search(rf"Copyright (\(c\) )?{re.escape(holder)}", said), (repository, said)


def test_all_of_them_are_small():
    assert sum(path.stat().st_size for path in FOLDER.glob("*")) < 100_000


@pytest.mark.parametrize(
    ("table", "kernels"), [("gpu/dense_vs_24_gemm.csv", 2), ("performance/spmv_unstructured.csv", 1)]
)
def test_figures_are_those_of_the_tables(table, kernels):
    if not (DATA / table).exists():
        pytest.skip("the published tables are not here")
    given = pd.read_csv(DATA / table)
    times = sorted([*given["dense_us"], *given["sparse24_us"]] if kernels == 2 else given["time_us"])
    family = "slidesparse" if kernels == 2 else "macko"
    frames = [open_record(name).frame for name in names() if name.startswith(family)]
    ours = sorted(pd.concat([frame["warm_us"].fillna(frame["cold_us"]) for frame in frames]))
    twice = given.duplicated(["gpu", "dtype", "m", "n", "k"]).sum() * 2 if kernels == 2 else 0
    assert len(ours) == len(times) - twice
    assert set(ours) <= set(times)


def test_what_the_table_says_of_one_gemm(a100):
    """dense_vs_24_gemm.csv: A100, fp16, Llama3.2-1B, m = 64, n = 2048, k = 8192: 36.004 and 24.412 us."""
    (dense, sparse) = [
        case for case in a100.of_layer(2048, 8192, "2:4", 0.5) if (case["tokens"], case["dtype"]) == (64, "fp16")
    ]
    assert (a100.us(dense), a100.us(sparse)) == (36.004, 24.412)
    assert a100.speedup(sparse) == 36.004 / 24.412


def test_rows_say_published_and_by_whom(a100):
    frame = to_frame(a100.every_row(), extra=a100.columns)
    assert set(frame["source"]) == {"published"}
    assert frame["settings"].str.contains("l2=warm published=SlideSparse").all()
    assert frame["mapping"].str.contains("vllmbench@92a8ca49 .Apache-2.0.: best of the algorithms").all()
    whole = frame[frame["model"] == "llama-3.2-1b"]
    assert len(whole.drop_duplicates(["layer"])) == 16 * 4
    assert set(whole["sparsity"]) == {0.5}
    assert whole.query("kernel == 'cusparselt24'")["speedup"].notna().all()


def layer(rows, cols, role, pattern="2:4", block=0):
    return shape_alone("m", pattern, rows, cols, f"model.layers.{block}.part.{role}_proj", role, block)


def test_matrices_measured_together_stand_for_their_parts(a100):
    block = [layer(2048, 2048, "q"), layer(512, 2048, "k"), layer(512, 2048, "v"), layer(2048, 2048, "o")]
    found = as_measured(a100, [(each, [64]) for each in block])
    assert [(each["role"], each["out_features"], each["nnz"]) for each, _ in found] == [
        ("qkv", 3072, 3072 * 2048 // 2),
        ("o", 2048, 2048 * 2048 // 2),
    ]
    assert found[0][0]["name"] == "model.layers.0.part.qkv_proj"
    alone = [layer(2048, 2048, role) for role in "qkv"]  # each was measured, so nothing is put together
    assert [each["role"] for each, _ in as_measured(a100, [(each, [64]) for each in alone])] == ["q", "k", "v"]
    odd = [layer(2048, 2048, "q"), layer(512, 2048, "k")]
    assert len(as_measured(a100, [(each, [64]) for each in odd])) == 2


def test_a_shape_that_was_not_measured_is_no_figure_and_names_the_nearest(a100):
    rows = to_frame(rows_for(a100, [(layer(2048, 8192, "down"), [64, 70])], "fp16"))
    assert rows["feasible"].tolist() == [True, True, False]
    assert rows["latency_us"].isna().tolist() == [False, False, True]
    assert rows["reason"].iloc[-1] == (
        "not measured on NVIDIA A100 80GB PCIe: 2048 x 8192, 2:4, 70 tokens, fp16; nearest: 2048 x 8192, 64 tokens: "
        "dense 36 us, cusparselt24 24.41 us (1.47x)"
    )
    with pytest.raises(UserError, match="no fp8; it has fp16"):
        rows_for(a100, [(layer(2048, 8192, "down"), [64])], "fp8")


def test_the_nearest_is_that_of_the_fewest_octaves(a100):
    """By hand: of the cubes and the models' shapes, 4096 cubed at 3000 tokens is nearest to 4096 at 4096."""
    found = nearest(a100.every_case, 4096, 4096, 3000, "2:4", 0.5, "fp16")
    assert {(case["out_features"], case["in_features"], case["tokens"]) for case in found} == {(4096, 4096, 4096)}
    assert {case["kernel"] for case in found} == {"dense", "cusparselt24"}
    assert nearest(a100.every_case, 1, 1, 1, "2:4", 0.5, "fp8") == []


def test_unstructured_masks_find_their_density():
    target = RecordTarget(open_record("macko-rtx-4090"), "cold")
    found = target.of_layer(11008, 4096, "unstructured", 0.501)
    assert {(case["kernel"], case["density"]) for case in found} == {
        *((kernel, density) for kernel in ("dense", "csr", "macko") for density in (0.5, 1.0))
    }


def test_the_command_without_a_gpu(capsys):
    arguments = ("--model", "llama-3.2-1b", "--tokens", "1024", "--dtype", "fp16")
    assert run("--replay", A100, *arguments, "--format", "csv") == 0
    frame = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert len(frame) == 16 * 4 * 2
    sparse = frame[frame["kernel"] == "cusparselt24"]
    assert 1.3 < sparse["dense_latency_us"].sum() / sparse["latency_us"].sum() < 1.6
    assert run("--replay", A100, "--shapes", "64,2048,8192", "--format", "json") == 0
    assert len(json.loads(capsys.readouterr().out)) == 2 * 3
    assert run("--replay", A100, "--shapes", "1,4096,4096", "--format", "json") == 3


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("slidesparse-a100-pci",), "did you mean 'slidesparse-a100-pcie'"),
        ((A100, "--tokens", "64"), "--model"),
        ((A100, "--on", "cpu"), "measures nothing"),
        ((A100, "--runs", "60"), "measures nothing"),
        ((A100, "--density", "0.5"), "measures nothing"),
        ((A100, "--dtype", "fp9"), "--dtype 'fp9': NVIDIA A100 80GB PCIe was measured in fp16, int8, bf16"),
        ((A100, "--shapes", "4x4"), "such as 16,4096,4096 (m,n,k"),
        (("",), "--replay is empty"),
        (("tests",), "tests is a folder; give the record in it, tests/record.csv"),
        ((A100, "--dtype", "fp9", "--model", "llama-3.2-1b"), "no fp9"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, word):
    assert word in refused(capsys, "--replay", *arguments)


def test_check_and_what_is_a_record(tmp_path):
    text = check_record(A100)
    assert "588 cases of NVIDIA A100 80GB PCIe, 588 of them ran" in text
    assert "a100-pcie predicts 2:4 fp16: median error" in text
    path = tmp_path / "r.csv.gz"
    write_record(path, open_record(A100))
    assert is_record(path)
    assert not is_record(tmp_path)
    assert not is_record("vitcod")
    first = path.read_bytes()
    write_record(path, read_record(path))
    assert path.read_bytes() == first
    path.write_bytes(first[:-30])
    with pytest.raises(UserError, match="cannot be read"):
        check_record(path)


def test_a_published_record_may_not_lack_a_time(tmp_path):
    record = open_record(A100)
    record.frame.loc[0, "warm_us"] = float("nan")
    write_record(tmp_path / "r.csv", record)
    with pytest.raises(UserError, match="warm_us is no positive number"):
        read_record(tmp_path / "r.csv")
    assert Path(FOLDER).is_dir()
