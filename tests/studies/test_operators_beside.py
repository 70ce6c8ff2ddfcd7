"""Published times of the operators that a study's models run: those of the same sizes, and no others."""

import pandas as pd
import pytest

from checkpoints.catalog import resolve_config
from checkpoints.decoders import decoder_of
from measurement.published_operators import published_operators
from simulator.inference.sizes import sizes_of
from studies.cli.main import main
from studies.configurations import configurations
from studies.designs import Named
from studies.operators_beside import operators_beside
from studies.running.study_run import run_study
from studies.study import read_study
from workloads.counts import Elements
from workloads.decoder.accounting import grouped
from workloads.decoder.split import split
from workloads.errors import UserError
from workloads.operations.causal import CausalAttention
from workloads.operations.gemm import Gemm
from workloads.phases import decode, prefill

LINEARS = {"qkv": (12288, 4096), "o": (4096, 4096), "gate_up": (22016, 4096), "down": (4096, 11008)}
STUDY = """
title = "Beside"
[[models]]
name = "seven"
shapes = "llama-2-7b"
[[methods]]
treat = ["int8"]
[[phases]]
prompt = 512
generate = 1
[[accelerators]]
name = "a100-sxm"
[[measured]]
record = "operators"
"""


def decoder():
    return decoder_of(resolve_config("llama-2-7b")[1])


def beside(on: Named = "a100-sxm", **asked) -> pd.DataFrame:
    wanted = configurations([on], [1], [512], [1], **asked)
    return operators_beside([("seven", decoder(), wanted)])


@pytest.mark.parametrize("phase", [prefill(3, 96), decode(3, 97)])
def test_sizes_are_those_that_do_the_flop(phase):
    elements = Elements(16)
    for one, _ in grouped(decoder()):
        found = sizes_of(one, phase, elements)
        if isinstance(one, Gemm):
            assert 2 * found[1]["m"] * found[1]["n"] * found[1]["k"] == one.counts(phase, elements).flop
        if isinstance(one, CausalAttention) and phase.name == "decode":
            s = found[1]
            flop = 4 * s["batch"] * s["kv_tokens"] * s["heads"] * s["head_dim"]
            assert flop == one.counts(phase, elements).flop
    kinds = {found[0] for one, _ in grouped(decoder()) if (found := sizes_of(one, phase, elements))}
    assert kinds == {"embedding", "rmsnorm", "linear", "rope", "attention", "silu_mul"}  # added norms are fused


def test_an_all_reduce_is_of_the_message():
    """Of 16-bit activations, all tokens of all sequences."""
    halves = [sizes_of(one, prefill(2, 100), Elements(16)) for one, _ in grouped(split(decoder(), 2))]
    assert ("all_reduce", {"gpus": 2, "message_bytes": 2 * 2 * 100 * 4096}) in halves


def test_linears_of_the_same_sizes_and_no_others():
    found, there = beside(), published_operators()
    there = there[(there["target"] == "a100-sxm") & (there["m"] == 512)]
    for role, (rows, cols) in LINEARS.items():
        given = there.loc[(there["n"] == rows) & (there["k"] == cols), "latency_us"]
        ours = found.loc[(found["role"] == role) & (found["phase"] == "prefill"), "published_us"]
        assert sorted(ours) == sorted(given.drop_duplicates()), role
    assert found["predicted_us"].notna().all()
    assert ((found["predicted_us"] / found["published_us"] - 1) - found["error"]).abs().max() < 1e-12


def test_attention_of_a_step_that_is_taken():
    """Published at 512 and 1,024 keys of 8 sequences: a decode that sees 513 to 1,023 meets neither."""
    for new, contexts in ((512, set()), (513, {"1024"})):
        wanted = configurations(["a100-sxm"], [8], [512], [new])
        found = operators_beside([("seven", decoder(), wanted)])
        steps = found[(found["role"] == "attention") & (found["phase"] == "decode")]
        assert set(steps["sizes"].str.extract(r" of (\d+),", expand=False)) == contexts


def test_other_cards_types_and_machines_have_none():
    assert beside("h200").empty  # a preset, of which nothing was timed
    assert beside("vitcod").empty
    assert beside(dtypes=["int8"]).empty
    assert beside(sets=["chip.clock_mhz=1000"]).empty


def test_a_study_shows_them_and_its_folder_reads_back(tmp_path):
    path = tmp_path / "beside.toml"
    path.write_text(STUDY)
    run_study(read_study(path), tmp_path / "out")
    rows = pd.read_csv(tmp_path / "out" / "published-operators.csv")
    assert len(rows) == len(beside())
    text = (tmp_path / "out" / "report.md").read_text()
    section = text.split("## Operators as others timed them")[1].split("\n## ")[0]
    assert f"seven on a100-sxm: {len(rows)} published times" in section
    assert "microsoft/vidur@7d475133" in section
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path / "out"), "--out", str(tmp_path / "again")])
    assert section in (tmp_path / "again" / "report.md").read_text()


def test_without_whole_models_there_is_nothing_to_stand_beside(tmp_path):
    path = tmp_path / "alone.toml"
    alone = STUDY.replace("[[phases]]\nprompt = 512\ngenerate = 1\n", "")
    path.write_text(alone.replace('treat = ["int8"]', 'method = "generated"\npattern = "2:4"'))
    with pytest.raises(UserError, match="operators stand beside whole models"):
        run_study(read_study(path), tmp_path / "out")
