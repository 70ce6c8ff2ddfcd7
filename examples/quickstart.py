"""The library in twenty lines: python quickstart.py, in any folder; what it writes goes to out/quickstart."""

import json
from pathlib import Path

import prunesim as ps
from prunesim.machines import Array, Ddr4, Vitcod

out = Path("out/quickstart")
out.mkdir(parents=True, exist_ok=True)
config = {"model_type": "llama", "hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 2}
(out / "config.json").write_text(json.dumps({**config, "num_attention_heads": 4, "vocab_size": 512}))

masks = ps.generate(out / "config.json", out=out / "masks", density=0.5)  # or ps.prune(model, method="wanda", ...)
rows = ps.simulate(masks, on=["vitcod", "sparten"], tokens=256)
print(rows.totals[["target", "speedup", "energy_ratio"]])

small = ps.simulate(masks, on=Vitcod(array=Array(32, 32), dram=Ddr4(channels=2)), tokens=256)
print(f"a smaller array gains {small.speedup:.2f} x", small.frame["bound"].value_counts().to_dict())

swept = ps.simulate(masks, on="vitcod", tokens=256, sweep={"array.height": "16:128:x2"})
print(swept.totals[["settings", "speedup", "energy_ratio"]])

gpu = ps.simulate(model=out / "config.json", pattern="2:4", on="h100-sxm", tokens=256)
print(ps.report(rows, small, gpu, out=out / "report").page)
