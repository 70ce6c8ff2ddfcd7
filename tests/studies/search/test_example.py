"""examples/search.toml in a short form: a tiny model, two ways to prune, a few machines."""

import re
from pathlib import Path

import pandas as pd

from studies.running.study_run import run_study
from studies.study import read_study

EXAMPLE = Path(__file__).parents[3] / "examples" / "search.toml"
SHORT = {
    "array.width": "[16, 32]", "array.height": "[32]", "buffers.weight_kib": "[53.0]",
    "dram.bandwidth_gbps": "[19.2, 76.8]", "method": '["wanda"]', "target": '[0.5, "2:4"]', "bits": "[0]",
    "samples": "2", "seq_len": "32", "eval_seq_len": "32", "eval_windows": "4",
    "constraints": '["area_mm2 <= 1.2", "perplexity <= 100000"]',
}  # fmt: skip


def test_the_example_searches_machines_and_masks(tiny_model, tmp_path):
    text = EXAMPLE.read_text().replace('"demo-model', f'"{tiny_model}')
    text = text.replace(f'name = "{tiny_model}"', 'name = "tiny"')
    for key, value in SHORT.items():
        text = re.sub(rf"^{re.escape(key)} = .*$", f"{key} = {value}", text, flags=re.MULTILINE)
    (tmp_path / "search.toml").write_text(text)
    run_study(read_study(tmp_path / "search.toml"), tmp_path / "out")
    trials = pd.read_csv(tmp_path / "out" / "trials.csv")
    assert len(trials) == 2 * 2 * 2
    assert trials["meets"].all()
    assert trials.groupby("pattern")["perplexity"].nunique().eq(1).all()  # masks are made once for all machines
    assert trials["mask_sha256"].nunique() == 2
    slow = trials["dram.bandwidth_gbps"] == 19.2
    assert trials.loc[slow, "latency_us"].sum() > trials.loc[~slow, "latency_us"].sum()
    assert (tmp_path / "out" / "machines" / "design-1.toml").is_file()
