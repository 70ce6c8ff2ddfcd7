"""The table of equal_speed.py's lines: which plan is called taken."""

import pandas as pd

from benchmarks.equal_speed_figure import COLUMNS, in_words, named


def test_the_plan_nearest_to_the_unpruned_model_is_taken_and_a_line_of_one_plan_is_that() -> None:
    found = [
        ("mixed", "knapsack", 20.0, 0.2),
        ("mixed", "searched", 21.0, 0.1),  # nearer on held-out sequences, if not on the test text
        ("shapes", "owl", 19.0, 0.3),
        ("besa", None, 18.0, 0.3),
    ]
    place = {"on": "vitcod", "phase": "decode", "speed": 1.5, "seed": 0, "speedup": 1.5, "sparsity": 0.5}
    lines = [place | {"method": m, "plan": p, "perplexity": x, "kl": kl} for m, p, x, kl in found]
    rows = named(pd.DataFrame(lines, columns=COLUMNS))
    assert dict(zip(rows["name"], rows["perplexity"], strict=True)) == {
        "mixed: knapsack": 20.0,
        "mixed: searched": 21.0,
        "mixed: taken": 21.0,
        "shapes: taken": 19.0,
        "besa": 18.0,
    }
    assert [in_words(name) for name in ("shapes: taken", "besa")] == [
        "zeros, neurons, heads, blocks: taken",
        "BESA, tuned",
    ]
