"""Our models in the lm-evaluation-harness, compared with manual computations; skipped without the harness."""

import json
import math
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_suite.runtime.errors import UserError
from tests.evaluate.conftest import Loaded

pytest.importorskip("lm_eval")

from lm_eval.api.instance import Instance  # noqa: E402

from mlx_suite.evaluate.harness import HarnessModel  # noqa: E402
from mlx_suite.evaluate.passages import text_passage  # noqa: E402
from mlx_suite.evaluate.perplexity import measure  # noqa: E402
from mlx_suite.evaluate.tasks import run_tasks  # noqa: E402
from tests.evaluate.test_text_stops import LETTERS  # noqa: E402

pytestmark = pytest.mark.harness


def harness(checkpoint: Loaded, **settings: Any) -> HarnessModel:
    model = settings.pop("model", checkpoint.model)
    return HarnessModel(model, checkpoint.tokenizer, checkpoint.template, **settings)


def requests(kind: Any, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [Instance(request_type=kind, doc={}, arguments=each, idx=i) for i, each in enumerate(arguments)]


def by_hand(checkpoint: Loaded, fed: list[int], count: int) -> tuple[float, bool]:
    """Log-probability (nats) of the last `count` tokens, and whether each is the most probable one."""
    logits = np.array(checkpoint.model(mx.array([fed[:-1]]))[0], np.float64)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    places = range(len(fed) - 1 - count, len(fed) - 1)
    return (
        sum(log_probs[i, fed[i + 1]] for i in places),
        all(log_probs[i].argmax() == fed[i + 1] for i in places),
    )


def test_a_continuation_is_scored_after_bos_and_context(checkpoint: Loaded) -> None:
    tokenizer = checkpoint.tokenizer
    pairs = [("a b", " c"), ("a", "bbb"), ("abc ", "abc"), ("", "ab")]
    found = harness(checkpoint).loglikelihood(requests("loglikelihood", *pairs), disable_tqdm=True)
    for (context, continuation), (nats, greedy) in zip(pairs, found, strict=True):
        fed = [tokenizer.bos_id, *tokenizer.encode(context + continuation)]
        # The space after "abc " counts as part of the continuation.
        count = len(tokenizer.encode(context + continuation)) - len(tokenizer.encode(context.rstrip()))
        expected = by_hand(checkpoint, fed, count)
        assert nats == pytest.approx(expected[0], abs=1e-4)
        assert greedy is expected[1]


def test_a_greedy_continuation_is_reported_as_greedy(checkpoint: Loaded) -> None:
    model = harness(checkpoint)
    [answer] = model.generate_until(requests("generate_until", ("a b", {"until": [], "max_gen_toks": 3})))
    assert answer
    [(_, greedy), (_, other)] = model.loglikelihood(requests("loglikelihood", ("a b", answer), ("a b", "\x7f")))
    assert (greedy, other) == (True, False)


def test_every_text_gets_exactly_one_bos(checkpoint: Loaded) -> None:
    model, bos = harness(checkpoint), checkpoint.tokenizer.bos_id
    plain = [bos, *checkpoint.tokenizer.encode("ab")]
    assert model.tok_encode("ab") == plain
    assert model.tok_encode("<|begin_of_text|>ab") == plain
    assert model.tok_encode("<|begin_of_text|><|begin_of_text|>ab") == plain
    assert model.tok_encode("ab", add_special_tokens=False) == plain[1:]
    assert (model.prefix_token_id, model.tokenizer_name) == (bos, "mlx-suite")


def test_special_tokens_are_plain_text_except_in_rendered_chats(checkpoint: Loaded) -> None:
    model, end = harness(checkpoint), checkpoint.tokenizer.id_of("<|eot_id|>")
    assert end not in model.tok_encode("<|eot_id|>")
    prompt = model.apply_chat_template([{"role": "user", "content": "a"}])
    assert prompt == checkpoint.template.render(
        [_message("user", "a")],
        add_generation_prompt=True,
    )
    ids = model.tok_encode(prompt)
    assert ids.count(checkpoint.tokenizer.bos_id) == 1
    assert end in ids
    prefilled = model.apply_chat_template(
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "So a"}], add_generation_prompt=False
    )
    assert prefilled == prompt + "So a"
    assert model.chat_template(True) == checkpoint.template.source
    assert model.chat_template(False) is None


def _message(role: str, content: str) -> Any:
    from mlx_suite.text import Message

    return Message(role, content)


def test_an_overlong_context_is_truncated_after_bos_and_counted(checkpoint: Loaded) -> None:
    tokenizer, model = checkpoint.tokenizer, harness(checkpoint, context=8)
    [(nats, _), _] = model.loglikelihood(requests("loglikelihood", ("abcabcabcabc", "bb"), ("a", "b")))
    kept = [tokenizer.bos_id, *tokenizer.encode("abcabcabcabcbb")[-8:]]
    assert nats == pytest.approx(by_hand(checkpoint, kept, 2)[0], abs=1e-4)
    assert (model.cut.contexts, model.cut.limits) == (1, 0)


def test_a_continuation_longer_than_the_context_is_scored_completely(checkpoint: Loaded) -> None:
    wide, narrow = harness(checkpoint), harness(checkpoint, context=8)
    [(whole, _)] = wide.loglikelihood(requests("loglikelihood", ("a", "bc" * 15)))
    [(parts, _)] = narrow.loglikelihood(requests("loglikelihood", ("a", "bc" * 15)))
    assert parts == pytest.approx(whole, rel=0.1)
    assert parts != whole


def test_rolling_log_likelihood_equals_our_perplexity(checkpoint: Loaded) -> None:
    texts = ["abc " * 20, "b", "ab?"]
    for context in (16, 256):
        rolled = harness(checkpoint, context=context).loglikelihood_rolling(
            requests("loglikelihood_rolling", *((text,) for text in texts))
        )
        passages = [text_passage(checkpoint.tokenizer, text) for text in texts]
        found = measure(checkpoint.model, checkpoint.tokenizer, passages, context=context, stride=context - 1)
        assert rolled == pytest.approx([-each.nats for each in found.passages], abs=1e-5)
    # The padding of shorter texts in a batch is not scored.
    [alone] = harness(checkpoint).loglikelihood_rolling(requests("loglikelihood_rolling", ("b",)))
    assert rolled[1] == pytest.approx(alone, abs=1e-5)
    fed = [checkpoint.tokenizer.bos_id, *checkpoint.tokenizer.encode("ab?")]
    assert rolled[2] == pytest.approx(by_hand(checkpoint, fed, 3)[0], abs=1e-4)


# ---- generation


def alphabet(checkpoint: Loaded) -> Any:
    """A model that continues the alphabet."""
    from tests.engine.scripted import ScriptedModel

    ids = checkpoint.tokenizer.encode(LETTERS)
    return ScriptedModel(dict(zip(ids, ids[1:], strict=False)), vocab_size=272)


def written(checkpoint: Loaded, *settings: dict[str, Any], **changes: Any) -> tuple[list[str], HarnessModel]:
    model = harness(checkpoint, model=alphabet(checkpoint), **{"context": 200, **changes})
    return model.generate_until(requests("generate_until", *(("a", each) for each in settings))), model


def test_responses_end_at_the_tasks_stop_texts_and_limits(checkpoint: Loaded) -> None:
    answers, _ = written(
        checkpoint,
        {"until": ["e"], "max_gen_toks": 20},
        {"until": "fg"},
        {"until": ["zz"], "max_gen_toks": 5},
        {"until": [], "max_tokens": 2},
    )
    assert answers == ["bcd", "bcde", "bcdef", "bc"]


def test_a_limit_beyond_the_context_is_reduced_to_half_of_it(checkpoint: Loaded) -> None:
    answers, model = written(checkpoint, {"until": [], "max_gen_toks": 1000}, context=16)
    assert answers == ["bcdefghi"]
    assert (model.cut.limits, model.cut.contexts) == (1, 0)


def test_responses_are_greedy_without_do_sample_and_seeded_with_it(checkpoint: Loaded) -> None:
    drawn = {"until": [], "max_gen_toks": 20, "do_sample": True, "temperature": 1.0}
    greedy = {**drawn, "do_sample": False}
    runs = [
        harness(checkpoint, seed=seed).generate_until(
            requests("generate_until", ("a", drawn), ("a", drawn), ("a", greedy), ("a", {**drawn, "temperature": 0.0}))
        )
        for seed in (0, 0, 10)
    ]
    assert runs[0] == runs[1]
    assert runs[0][0] != runs[0][1]
    assert runs[0][0] != runs[2][0]
    assert runs[0][2] == runs[0][3] == runs[2][2]


# ---- tasks


def task_folder(folder: Path) -> Path:
    """Two tasks on four rows of a local file."""
    rows = [
        {"question": "a", "choices": ["b", "zz"], "answer": 0},
        {"question": "c", "choices": ["xx", "d"], "answer": 1},
        {"question": "e", "choices": ["yy", "f"], "answer": 0},
        {"question": "g", "choices": ["h", "i"], "answer": 0},
    ]
    data = folder / "rows.json"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "letters.yaml").write_text(
        f"""
task: letters
dataset_path: json
dataset_kwargs:
  cache_dir: {folder / "cache"}
  data_files:
    test: {data}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: choices
doc_to_target: answer
target_delimiter: ""
metric_list:
  - metric: acc
metadata:
  version: 1.0
"""
    )
    (folder / "next.yaml").write_text(
        f"""
task: next_letter
dataset_path: json
dataset_kwargs:
  cache_dir: {folder / "cache"}
  data_files:
    test: {data}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{choices[answer]}}}}"
generation_kwargs:
  until: ["i"]
  max_gen_toks: 1
metric_list:
  - metric: exact_match
metadata:
  version: 1.0
"""
    )
    return folder


def test_a_custom_task_runs(checkpoint: Loaded, tmp_path: Path) -> None:
    class Alphabet:
        """The scripted model without a cache, for scoring."""

        def __init__(self) -> None:
            self.scripted = alphabet(checkpoint)
            self.config = self.scripted.config

        def __call__(self, tokens: mx.array, cache: Any = None) -> mx.array:
            return self.scripted(tokens, cache or ())

    model = harness(checkpoint, model=Alphabet(), context=64)
    figures = run_tasks(model, ["letters", "next_letter"], include=task_folder(tmp_path))
    shown = {(each.task, each.metric): (each.value, each.samples, each.shots, each.version) for each in figures}
    # Right: a → b, c → d, g → h; the third row's reference is wrong on purpose.
    assert shown["letters", "acc"] == (0.75, 4, 0, "1.0")
    assert shown["next_letter", "exact_match"] == (0.75, 4, 0, "1.0")
    [part] = [each for each in run_tasks(model, ["letters"], include=tmp_path, limit=2) if each.metric == "acc"]
    assert (part.value, part.samples) == (1.0, 2)
    assert math.isfinite(part.error or 0.0)


def test_an_unknown_task_is_reported_with_the_nearest_names(checkpoint: Loaded, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Unknown task: leters") as caught:
        run_tasks(harness(checkpoint), ["leters"], include=task_folder(tmp_path))
    assert "letters" in caught.value.details[0]
