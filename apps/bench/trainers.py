"""Two trainers of the same adapter on the same rows: ours and mlx-lm's.

Each runs in its own process, makes one pass over all rows per turn, and saves its adapter.
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_suite.data.batch.batches import BucketedBatches, MixedBatches, held_positions, mixed_batches
from mlx_suite.data.batch.rows import Document

from .training_rows import TrainingRows, others_rows, packed_rows
from .turns import TurnOrder, resident_peak


@dataclass(frozen=True, kw_only=True)
class Job:
    """Input of a trainer."""

    model: str
    """Folder of the checkpoint."""
    start: str
    """Folder of the initial adapter, the same for all."""
    out: str
    """Folder for the trained adapter."""
    documents: Sequence[Document]
    rows: TrainingRows


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One pass over all rows."""

    steps: int
    seconds: float
    loss: float
    """Mean of the steps' losses as the trainer reports them."""
    trained: int
    """Trained targets in the rows that were fed."""
    counted: int
    """Trained targets by the trainer's own count."""
    fed: int
    """Positions that went through the model, padding included."""
    held: int
    """Positions that held a token of a document."""
    peak_bytes: int | None
    """MLX's peak memory; None for a trainer without MLX."""
    resident_bytes: int
    """Peak resident memory of the process."""


def ours(job: Job, turns: TurnOrder) -> None:
    """Train with our compiled step on rows as in `finetune`. The time includes making the batches."""
    import mlx.optimizers as optim

    from mlx_suite.adapters.attach import apply_adapter, load_adapter, save_adapter
    from mlx_suite.checkpoints.load import load_model
    from mlx_suite.training.train_step import TrainStep

    _prepare_memory()
    model = load_model(job.model)
    adapter = load_adapter(job.start)
    apply_adapter(model, adapter)
    batches = _our_batches(job)
    train_step = TrainStep(model, optim.AdamW(job.rows.learning_rate), clip=0.0)
    for number in range(job.rows.passes):
        turns.wait()
        mx.reset_peak_memory()
        losses: list[Any] = []
        trained = fed = held = 0
        start = time.perf_counter()
        for chosen in batches.order(job.rows.seed, number):
            batch = batches.take(chosen)
            loss, _ = train_step.run([batch], batch.total, seed=number)
            losses.append(loss)
            trained += batch.trained
            fed += batch.tokens.size
            held += held_positions(batches, chosen, batch)
        turns.report(
            Pass(
                steps=len(losses),
                seconds=time.perf_counter() - start,
                loss=sum(loss.item() for loss in losses) / len(losses),
                trained=trained,
                counted=trained,
                fed=fed,
                held=held,
                peak_bytes=mx.get_peak_memory(),
                resident_bytes=resident_peak(),
            )
        )
    save_adapter(job.out, model, adapter.config, base=job.model)


def _our_batches(job: Job) -> MixedBatches | BucketedBatches:
    """Batches of `rows.batch` documents, or of packed rows with about as many tokens."""
    if job.rows.batching == "bucket":
        return BucketedBatches(job.documents, job.rows.batch)
    return mixed_batches(job.documents, *packed_rows(job.documents, job.rows))


def mlx_lm(job: Job, turns: TurnOrder) -> None:
    """Train with `mlx_lm.tuner.trainer.train` and its datasets, batches and loss, as `mlx_lm.lora --mask-prompt` does.

    The time is mlx-lm's own, which leaves out making the batches. Its data sets train one span of a row; rows in which
    documents are joined have several, so they come with the weight of each token and a loss that reads it.
    """
    import mlx.optimizers as optim
    from mlx_lm.tuner.datasets import CacheDataset, ChatDataset
    from mlx_lm.tuner.trainer import TrainingArgs, default_loss, iterate_batches, train
    from mlx_lm.tuner.utils import linear_to_lora_layers

    _prepare_memory()
    model = load_their_model(job.model)
    model.freeze()
    settings = {"rank": job.rows.rank, "scale": job.rows.scale, "dropout": 0.0}
    linear_to_lora_layers(model, len(model.layers), settings)
    model.load_weights(str(Path(job.start) / "adapters.safetensors"), strict=False)
    mx.eval(model.parameters())
    documents, batch_size = others_rows(job.documents, job.rows)
    is_joined = job.rows.batching == "pack-all"
    data = CacheDataset(ChatDataset([as_chat(each) for each in documents], _Tokens(), mask_prompt=True))
    per_pass = len(documents) // batch_size
    counts = {"trained": 0, "fed": 0, "held": 0}

    def padded(dataset: Any, size: int, longest: int) -> Iterator[tuple[mx.array, mx.array, int, int]]:
        for tokens, spans in iterate_batches(dataset, size, longest):
            # mlx-lm feeds the first m − 1 of m padded positions.
            held = sum(min(length, tokens.shape[1] - 1) for _, length in spans.tolist())
            yield tokens, spans, sum(length - offset for offset, length in spans.tolist()), held

    def joined(dataset: Any, size: int, longest: int) -> Iterator[tuple[mx.array, mx.array, int, int]]:
        for at in range(0, len(documents), size):
            chosen = documents[at : at + size]
            width = max(map(len, chosen))
            tokens = [[*each.tokens] + [0] * (width - len(each)) for each in chosen]
            weights = [[*each.weights] + [0.0] * (width - len(each)) for each in chosen]
            trained = sum(int(sum(each.weights[1:])) for each in chosen)
            yield mx.array(tokens), mx.array(weights), trained, sum(len(each) - 1 for each in chosen)

    def batches(dataset: Any, batch_size: int, max_seq_length: int, **others: Any) -> Iterator[Any]:
        for _ in range(job.rows.passes):
            turns.wait()
            counts.update(trained=0, fed=0, held=0)
            mx.reset_peak_memory()
            found = (joined if is_joined else padded)(dataset, batch_size, max_seq_length)
            for tokens, targets, trained, held in found:
                counts["fed"] += len(tokens) * (tokens.shape[1] - 1)
                counts["trained"] += trained
                counts["held"] += held
                yield tokens, targets

    class Report:
        """Callback of `train`, called after the last step of each pass."""

        def on_train_loss_report(self, info: dict[str, Any]) -> None:
            seconds = per_pass / info["iterations_per_second"]
            turns.report(
                Pass(
                    steps=per_pass,
                    seconds=seconds,
                    loss=info["train_loss"],
                    counted=round(info["tokens_per_second"] * seconds),
                    peak_bytes=mx.get_peak_memory(),
                    resident_bytes=resident_peak(),
                    **counts,
                )
            )

    folder = Path(job.out)
    folder.mkdir()
    with redirect_stdout(StringIO()):
        train(
            model,
            optim.AdamW(job.rows.learning_rate),
            data,
            args=TrainingArgs(
                batch_size=batch_size,
                iters=per_pass * job.rows.passes,
                steps_per_report=per_pass,
                steps_per_save=10**9,
                max_seq_length=max(job.rows.longest, *map(len, documents)),
                adapter_file=str(folder / "adapters.safetensors"),
            ),
            loss=weighted_loss if is_joined else default_loss,
            iterate_batches=batches,
            training_callback=Report(),
        )
    config: dict[str, Any] = {"fine_tune_type": "lora", "num_layers": len(model.layers), "lora_parameters": settings}
    (folder / "adapter_config.json").write_text(json.dumps(config))


def weighted_loss(model: Any, tokens: mx.array, weights: mx.array) -> tuple[mx.array, mx.array]:
    """mlx-lm's loss, with a weight for each token (B, L) in place of one span per row: (mean loss, trained tokens)."""
    import mlx.nn as nn

    losses = nn.losses.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:]) * weights[:, 1:]
    count = weights[:, 1:].sum()
    return losses.astype(mx.float32).sum() / count, count


def load_their_model(folder: str) -> Any:
    """mlx-lm's model in the precision of ours: fp32 on a CPU."""
    from mlx_lm.utils import load_model

    from mlx_suite.runtime.device import device

    model = load_model(Path(folder))[0]
    if device().kind == "cpu":
        model.set_dtype(mx.float32)
    mx.eval(model.parameters())
    return model


def as_chat(document: Document) -> dict[str, Any]:
    """A document as a chat whose contents are token ids."""
    prompt = len(document) - document.trained
    return {
        "messages": [
            {"role": "user", "content": list(document.tokens[:prompt])},
            {"role": "assistant", "content": list(document.tokens[prompt:])},
        ]
    }


class _Tokens:
    """A tokenizer for chats of token ids, so that every trainer gets the same ids."""

    def apply_chat_template(self, messages: list[dict[str, Any]], **_: Any) -> list[int]:
        return [token for message in messages for token in message["content"]]


def _prepare_memory() -> None:
    """Set the memory limits that our commands set, for mlx-lm as well."""
    from mlx_suite.runtime.device import device, set_limits

    set_limits(device())
