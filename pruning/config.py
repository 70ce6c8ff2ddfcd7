"""What can be asked of a pruning run, of its calibration, of fine-tuning and of an evaluation. One class
each: the command line fills it, study files and Python give it, bundles record it. A setting is one line here: its
name, its type, what it means. None: not given.
"""

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_type_hints

from workloads.arguments import taken
from workloads.errors import UserError, meant, unknown
from workloads.selectors import Selection

Texts = str | tuple[str, ...]
PARTS = ("quantizer", "allocation")  # of a run, whose own settings `set` gives under such a prefix


def setting(meaning: str) -> Any:
    return field(default=None, metadata={"help": meaning})


def is_setting(each: Field) -> bool:
    """Of a class's fields: those that were made by `setting`."""
    return "help" in each.metadata


@dataclass(frozen=True)
class PruneConfig:
    """What to prune with."""

    method: str | None = setting(
        "magnitude, wanda, wanda-pp, ria, gblm, sparsegpt, besa, dpp, none; cfsp, flap, obs-sp, taylor-sp, evolution, "
        "policy-gradient, stamp, ffr, wanda-sp, magnitude-sp, shortgpt, blockpruner, which take heads, neurons or "
        "blocks out; lowrank, blockdense, blockshuffle, which factorize FFN matrices; gradual, iss-p, which train the "
        "model meanwhile; unify, of small blocks (prunesim ls methods)."
    )
    sparsity: float | None = setting("Share of weights to prune, in [0, 1). Left out with N:M, which fixes it.")
    pattern: str | None = setting("unstructured (default), or N:M: at most N kept in each run of M inputs.")
    rule: str | None = setting(
        "What is compared, e.g. row, layer or global. Default: the method's (prunesim show METHOD)."
    )
    set: dict[str, Any] | None = setting(
        "key=value of the method's parameters, quantizer.key=value, allocation.key=value (prunesim show NAME)."
    )
    bits: int | None = setting("Also quantize the weights to so many bits, 2 to 8 (method none: only that).")
    group_size: int | None = setting("Consecutive inputs that share a scale; 0 (default) = the whole row.")
    quantizer: str | None = setting(
        "rtn, gptq, lwc, awq (prunesim ls quantizers). Default: the method's own, in the same optimisation, else rtn."
    )
    allocation: str | None = setting(
        "er, erk, owl, alpha, depth: a sparsity of its own for every block or matrix (prunesim ls allocations)."
    )
    plan: str | Path | None = setting(
        'A file that says what each matrix gets, {"NAME": "unstructured-48", "OTHER": "2:4+bits:4"}, in place of '
        "sparsity, pattern and bits; matrices that it does not name stay dense."
    )
    only: Texts | None = setting(
        "Layers to prune: roles (q or gate,up), blocks:0-15, blocks:2-, names (*.mlp.*). Commas widen, giving it again "
        "narrows. The others stay dense: sparsity, bits and allocation are of the chosen ones."
    )
    skip: Texts | None = setting("Layers to leave dense, in the same words.")
    multiple_of: int | None = setting(
        "Structured methods: of every FFN so many neurons stay that they are a multiple of it, e.g. 128 (default 1)."
    )
    fallback: str | None = setting(
        "Where N:M or a group does not divide a matrix's inputs: refuse the model (default); unstructured at the same "
        "sparsity (one scale a row for groups); or skip the matrix, which stays dense."
    )
    after: str | Path | None = setting(
        "A bundle to go on from: what it leaves of the model is pruned or quantized, and the new bundle holds its "
        "removal, masks and weights too. Structured pruning comes first, then masks, then bits."
    )
    seed: int | None = setting("Draws the calibration sequences (default 0).")

    @property
    def selection(self) -> Selection:
        """Raises UserError for texts that are no selectors."""
        return Selection(texts(self.only), texts(self.skip))

    def set_of(self, part: str = "") -> dict[str, Any]:
        """What `set` gives the method (""), the quantizer or the allocation. Raises UserError for a key that is given
        twice."""
        found = {}
        for key, value in flat(self.set or {}).items():
            prefix, _, rest = key.partition(".")
            named = prefix if rest and prefix in PARTS else ""
            if named == part:
                found[rest if named else key] = value
        return found


@dataclass(frozen=True, kw_only=True)
class CalibrationConfig:
    """What runs through the model while it is pruned."""

    calibration: str | None = setting(
        "A text, JSON lines or a JSON array of documents, Parquet (also packed: .gz, .zst, .bz2), .npy token ids "
        "(samples, seq_len), wikitext2, c4, or NAME:CONFIG:SPLIT of a data set (extra `datasets`)."
    )
    samples: int | None = setting("Calibration sequences (default 128; all of a .npy file).")
    seq_len: int | None = setting("Tokens a sequence (default 2048; those of a .npy file).")


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """How the weights that pruning left are trained again."""

    text: str | None = setting(
        "What to train on: a text, JSON lines or a JSON array of documents, Parquet (also packed: .gz, .zst, .bz2), "
        ".npy token ids (sequences, seq_len), wikitext2, c4, NAME:CONFIG:SPLIT of a data set (extra `datasets`); or "
        "JSON lines with a prompt and a completion each, whose completions alone are learned."
    )
    steps: int | None = setting("Optimizer steps.")
    mode: Literal["full", "lora"] | None = setting(
        "full (default): every surviving weight; lora: low-rank adapters (W + s B A) .* M, merged under the mask."
    )
    rank: int | None = setting("Of adapters: the mean rank over the blocks (default 8).")
    importance: str | None = setting(
        "Of adapters: ranks by importance of the blocks. kept: the share of weights that each block kept; or a number "
        "a block, with commas between. Default: the same rank everywhere."
    )
    only: Texts | None = setting(
        "Matrices to train: roles (q or gate,up), blocks:0-15, blocks:2-, names (*.mlp.*). Commas widen, giving it "
        "again narrows. Default: all of the bundle."
    )
    skip: Texts | None = setting("Matrices that stay as they are, in the same words.")
    lr: float | None = setting(
        "Highest learning rate (default 1e-4 sqrt(4096 / hidden size), adapters three times that); it falls to 0 along "
        "a half cosine."
    )
    warmup: int | None = setting("Steps over which the learning rate rises (default: a twentieth of the steps).")
    batch: int | None = setting("Sequences a step (default 8).")
    seq_len: int | None = setting("Tokens a sequence (default 2048; those of a .npy file).")
    distill: Literal["logits", "layers"] | None = setting(
        "Also follow the dense model: logits: its predictions (Kullback-Leibler); layers: the outputs of its blocks. "
        "Keeps a second model in memory."
    )
    distill_weight: float | None = setting("Of that term beside the loss of the text (default 1).")
    held_out: str | None = setting(
        "Text that is not trained on: a share in (0, 1) of the sequences, the last ones (default 0.05), or a file. At "
        "most 64 sequences are used."
    )
    eval_every: int | None = setting("Steps between two looks at the held-out loss (default: a tenth of the steps).")
    patience: int | None = setting(
        "Stop after so many looks without a lower held-out loss, and keep the weights of the best (default: never). "
        "With a guide, looks count from when it is gone."
    )
    save_every: int | None = setting("Steps after which a killed run can go on (default 100).")
    recompute: bool | None = setting("Compute activations again instead of keeping them: less memory, a third slower.")
    samples: int | None = setting("Of networks that read no text: samples that are made to train on (default 512).")
    guide: bool | None = setting(
        "Of products of factors: dense weights, trained beside them, help and fade over the first half of the steps."
    )
    seed: int | None = setting("Orders the sequences and draws the adapters (default 0).")

    @property
    def selection(self) -> Selection:
        """Raises UserError for texts that are no selectors."""
        return Selection(texts(self.only), texts(self.skip))


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """The text whose perplexity, or the tasks whose scores, are asked for."""

    text: str | None = setting(
        "Perplexity per token of a text, JSON lines or a JSON array of documents, Parquet (also packed: .gz, .zst, "
        ".bz2), .npy token ids (windows, seq_len), whose rows are the windows, wikitext2, c4, or NAME:CONFIG:SPLIT of "
        "a data set (extra `datasets`)."
    )
    tasks: str | None = setting(
        "Tasks, groups or tags of lm_eval, with commas between them (extra `eval`); wanda-7 and besa-6 are the papers' "
        "sets. cloze, continuation: questions made of `text`, which need nothing else."
    )
    seq_len: int | None = setting(
        "Of a text, tokens a window (default 2048; of .npy its rows); of tasks, the longest sequence (default: the "
        "model's maximum)."
    )
    windows: int | None = setting("Of a text: only the first so many windows (default: all).")
    compare: bool | None = setting(
        "Of a text, with masks: also how far predictions are from the dense model's (KL divergence, top-1 agreement) "
        "and the error behind every block. Takes twice the time."
    )
    task_folder: Path | None = setting(
        "Tasks of your own: lm_eval's .yaml files, their data beside them. Python functions that they name are run."
    )
    limit: int | None = setting("Only the first so many documents of each task (default: all).")
    num_fewshot: int | None = setting(
        "Solved examples in front of every question (default: what the task states, else 0)."
    )
    fewshot_seed: int | None = setting("Draws them (default 1234, as lm_eval).")
    special_tokens: Literal["off", "tokenizer"] | None = setting(
        "off (default): the texts alone, as in the pruning papers; tokenizer: with what it adds, as lm_eval does."
    )

    @property
    def offline_tasks(self) -> list[str]:
        """Those of `tasks` that are made of a text."""
        names = [name.strip() for name in (self.tasks or "").split(",")]
        return [name for name in names if name in OFFLINE_TASKS]

    def _check_offline(self) -> None:
        names = [name.strip() for name in (self.tasks or "").split(",") if name.strip()]
        if other := next((name for name in names if name not in OFFLINE_TASKS), None):
            raise UserError(
                f"{other} is none of the tasks made of a text ({', '.join(OFFLINE_TASKS)}); "
                f"{meant(other, OFFLINE_TASKS)}ask for it apart, without `text`"
            )
        if self.text is None:
            raise UserError(f"`tasks={self.tasks}` makes questions of a text; say of which: `text`")
        for name in ("windows", "compare", "task_folder", "num_fewshot", "fewshot_seed", "special_tokens"):
            if getattr(self, name) is not None:
                raise UserError(f"`{name}` has no meaning with questions made of a text; leave it out")

    def check_network(self, model: str) -> None:
        """Raises UserError for what is of language models alone."""
        given = next((each.name for each in fields(self) if getattr(self, each.name) is not None), None)
        if given is not None:
            raise UserError(f"`{given}` is of language models; {model} is measured on samples of its own, leave it out")

    def check(self) -> None:
        """Raises UserError unless one of text and tasks is asked for, or tasks that are made of a text and it, with
        settings of its own alone."""
        if self.offline_tasks or (self.text is not None and self.tasks is not None):
            self._check_offline()
            return
        if self.text is None and self.tasks is None:
            raise UserError("give one of `text` (perplexity per token) and `tasks` (lm_eval's tasks)")
        asked, others = ("tasks", ("windows", "compare")) if self.text is None else ("text", OF_TASKS)
        for name in others:
            if getattr(self, name) is not None:
                raise UserError(f"`{name}` has no meaning with `{asked}`; leave it out")


OFFLINE_TASKS = ("cloze", "continuation")  # made of a text (pruning/data/questions.py)
OF_TASKS = ("task_folder", "limit", "num_fewshot", "fewshot_seed", "special_tokens")


def texts(value: Texts | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"quantizer": {"symmetric": True}} -> {"quantizer.symmetric": True}. Raises UserError for a key that is given
    twice."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        inner = flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
        if twice := next((name for name in inner if name in found), None):
            raise UserError(f"`set` gives {twice} twice; leave one out")
        found |= inner
    return found


def split_settings(settings: Mapping[str, Any], *kinds: type) -> list[Any]:
    """One instance of each kind, of the settings that are its own. Raises UserError for one that none of them has, and
    one of a wrong type."""
    names = {kind: [each.name for each in fields(kind)] for kind in kinds}
    known = [name for own in names.values() for name in own]
    for name in settings:
        if name not in known:
            raise unknown("setting", name, known)
    made = []
    for kind, own in names.items():
        hints = get_type_hints(kind)
        made.append(kind(**{name: taken(name, hints[name], settings[name]) for name in own if name in settings}))
    return made
