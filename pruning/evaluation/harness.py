"""A model as lm_eval's tasks ask for it: log-likelihoods of continuations and of whole texts (methods 19.4; extra
`eval`).

Prompts, the cut between context and continuation, the rolling windows of a text and all metrics are lm_eval's; only the
model is run here: the whole model in memory, one sequence a forward pass, log-softmax in float32, sums in float64. So a
request's number does not depend on the other requests, nor on the number of threads.
"""

import math
from itertools import groupby
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from checkpoints.checkpoint import Checkpoint
from pruning.forward.hidden_states import Progress
from pruning.parallel import ordered_map
from workloads.errors import UserError, one_line

try:
    from lm_eval.api.model import TemplateLM
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
except ImportError as error:
    raise UserError(f"tasks are evaluated by lm_eval ({one_line(error)}): pip install 'prunesim[eval]'") from None

LOGIT_ROWS = 512  # tokens whose logits are turned into float32 at once
DEFAULT_CONTEXT = 2048  # of models whose config names no longest sequence, as in lm_eval


def longest_context(checkpoint: Checkpoint, seq_len: int | None) -> int:
    """Tokens a forward pass may take: `seq_len`, by default the model's own maximum. Raises UserError if it has
    less."""
    longest = getattr(checkpoint.config.get_text_config(), "max_position_embeddings", None)
    if seq_len is None:
        return longest or DEFAULT_CONTEXT
    if seq_len < 2:
        raise UserError(f"`seq_len` must be at least 2 to predict anything, not {seq_len}")
    if longest and seq_len > longest:
        raise UserError(f"`seq_len` is {seq_len}, {checkpoint.folder} takes {longest} tokens; lower it")
    return seq_len


class HarnessModel(TemplateLM):
    """What lm_eval calls a model. `truncated` counts the requests that lost their first tokens to `max_length`.

    special_tokens: whether the tokenizer adds its own (a BOS in front); the pruning papers leave them out. Where a text
    has no context, BOS (or EOS) is put in front all the same, as lm_eval does it.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        special_tokens: bool,
        progress: Progress,
    ):
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.special_tokens = special_tokens
        self.progress = progress
        self.truncated = 0
        self.vocabulary = model.config.get_text_config().vocab_size

    @property
    def eot_token_id(self) -> int:
        """Of the tokenizer, else of the config. Raises UserError if neither names one."""
        return self._special("eos_token_id")

    @property
    def prefix_token_id(self) -> int:
        return self._special("bos_token_id", "eos_token_id")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids of a text; special tokens by the model's policy, but never a second BOS."""
        if add_special_tokens is None:
            bos = self.tokenizer.bos_token
            add_special_tokens = self.special_tokens and not (bos and string.startswith(bos))
        return self.tokenizer.encode(string, add_special_tokens=add_special_tokens, verbose=False)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of each whole text: every token predicted once, in windows of max_length tokens."""
        owners: list[int] = []
        windows: list[tuple[Any, list[int], list[int]]] = []
        for number, request in enumerate(requests):
            ids = self.tok_encode(request.args[0])
            for window in get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, context_len=1):
                windows.append((None, *make_disjoint_window(window)))
                owners.append(number)
        sums = [0.0] * len(requests)
        for number, (loglikelihood, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            sums[number] += loglikelihood
        return sums

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        raise cannot_write(requests[0].task_name)

    def _loglikelihood_tokens(
        self, requests: list[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        """(log-likelihood, whether greedy decoding gives it) of each (_, context, continuation)."""
        sharing: dict[tuple[int, ...], list[int]] = {}  # answers that differ in their last token share a forward pass
        for number, (strings, context, continuation) in enumerate(requests):
            self._check(strings, context, continuation)
            context = context or [self.prefix_token_id]  # a context of spaces alone leaves none
            self.truncated += len(context) + len(continuation) > self.max_length + 1
            sharing.setdefault(tuple((context + continuation)[-self.max_length - 1 : -1]), []).append(number)

        def score(ids: tuple[int, ...]) -> list[tuple[float, bool]]:
            logits = self.model(input_ids=torch.tensor([ids], device=self.model.device), use_cache=False).logits[0]
            return [continuation_score(logits, requests[number][2]) for number in sharing[ids]]

        answers: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        done = 0
        # Longest first: what does not fit in memory fails at once. One length at a time: the rotary tables of some
        # models follow the sequence in hand, so threads may not run different lengths through one model.
        for _length, group in groupby(sorted(sharing, key=len, reverse=True), key=len):
            same_length = list(group)
            for ids, found in zip(same_length, ordered_map(score, same_length), strict=True):
                for number, answer in zip(sharing[ids], found, strict=True):
                    answers[number] = answer
                self.progress("evaluating", done, len(requests))
                done += len(found)
        return answers

    def _check(self, strings: Any, context: list[int], continuation: list[int]) -> None:
        what = f"the answer {strings[1][:40]!r}" if strings else "a text"
        if not continuation:
            raise UserError(f"{what} has no token of its own behind its context; change the task's answers")
        if len(continuation) > self.max_length:
            raise UserError(
                f"{what} has {len(continuation)} tokens, the context is {self.max_length}; raise `seq_len` or shorten "
                "it"
            )
        if (highest := max(*context, *continuation, 0)) >= self.vocabulary:
            raise UserError(
                f"the tokenizer gives id {highest}, the model knows {self.vocabulary}; do they belong together?"
            )

    def _special(self, *names: str) -> int:
        for holder in (self.tokenizer, self.model.config.get_text_config()):
            for name in names:
                if isinstance(found := getattr(holder, name, None), int):
                    return found
        raise UserError(
            f"neither the tokenizer nor config.json has a {' or '.join(names)}, which lm_eval puts in front"
        )


def cannot_write(task: str) -> UserError:
    return UserError(f"task {task} has the model write text; only tasks scored by log-likelihood can be evaluated")


def continuation_score(logits: torch.Tensor, continuation: list[int]) -> tuple[float, bool]:
    """Log-likelihood of the last tokens, and whether each is the likeliest: logits (seq, vocabulary), seq >= tokens.

    Raises UserError if it is not finite.
    """
    wanted = torch.tensor(continuation, device=logits.device)
    total, greedy = 0.0, True
    for rows, ids in zip(logits[-len(wanted) :].split(LOGIT_ROWS), wanted.split(LOGIT_ROWS), strict=True):
        losses = nn.functional.cross_entropy(rows.float(), ids, reduction="none").double()
        total -= float(losses.sum())
        greedy = greedy and bool((rows.argmax(dim=-1) == ids).all())
    if not math.isfinite(total):
        raise UserError(
            f"a log-likelihood is {total}: the model's weights or activations overflow; use `dtype=float32` or repair "
            "it"
        )
    return total, greedy
