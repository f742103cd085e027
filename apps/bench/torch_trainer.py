"""TRL's trainer with PEFT's adapter on torch, on the CPU: an optional comparison."""

import os
import time
import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from .trainers import Job, Pass
from .training_rows import others_rows
from .turns import TurnOrder, resident_peak


def trl(job: Job, turns: TurnOrder) -> None:
    """`trl.SFTTrainer` in fp32 on token ids: only responses are trained, each batch is padded to its longest row.

    TRL's defaults, except for what the comparison fixes: AdamW at a constant learning rate, no clipping, no gradient
    checkpointing. The time of a pass includes collation. torch corrects the bias of AdamW's moments and MLX by default
    does not, so torch's first steps are smaller at the same rate.
    """
    _silence()
    import torch
    from datasets import Dataset
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback
    from transformers.utils.logging import disable_progress_bar
    from trl import SFTConfig, SFTTrainer

    disable_progress_bar()

    base = AutoModelForCausalLM.from_pretrained(job.model, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(Path(job.start) / "peft"), is_trainable=True)
    documents, batch_size = others_rows(job.documents, job.rows)
    data = Dataset.from_list(
        [
            {"input_ids": list(each.tokens), "completion_mask": [int(weight > 0) for weight in each.weights]}
            for each in documents
        ]
    )
    lengths = {"fed": 0, "held": 0}

    class TurnCallback(TrainerCallback):
        """Waits for its turn before each epoch and reports after it."""

        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            turns.wait()
            lengths.update(fed=0, held=0)
            self.start = time.perf_counter()

        def on_epoch_end(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
            seconds = time.perf_counter() - self.start
            steps = len(documents) // batch_size
            trained = sum(each.trained for each in job.documents)
            turns.report(
                Pass(
                    steps=steps,
                    seconds=seconds,
                    loss=float("nan"),
                    trained=trained,
                    counted=trained,
                    peak_bytes=None,
                    resident_bytes=resident_peak(),
                    **lengths,
                )
            )

    def count(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        lengths["fed"] += kwargs["input_ids"].numel()
        lengths["held"] += int(kwargs["attention_mask"].sum())

    model.register_forward_pre_hook(count, with_kwargs=True)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=job.out + "-trl",
            per_device_train_batch_size=batch_size,
            num_train_epochs=job.rows.passes,
            learning_rate=job.rows.learning_rate,
            lr_scheduler_type="constant",
            weight_decay=0.01,
            max_grad_norm=0.0,
            max_length=max(job.rows.longest, *map(len, documents)),
            completion_only_loss=True,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            optim="adamw_torch",
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=job.rows.seed,
        ),
        train_dataset=data,
        processing_class=_no_tokenizer(PreTrainedTokenizerFast),
        callbacks=[TurnCallback()],
    )
    # TRL prints a summary, which would corrupt our JSON.
    with redirect_stdout(StringIO()):
        trainer.train()
    model.save_pretrained(job.out)


def _silence() -> None:
    """Turn off progress bars and warnings; errors are still raised."""
    os.environ |= {
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }
    warnings.simplefilter("ignore")


def _no_tokenizer(kind: Any) -> Any:
    """A tokenizer with only a padding token, since the rows are already token ids."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    return kind(
        tokenizer_object=Tokenizer(WordLevel({"<pad>": 0}, unk_token="<pad>")), pad_token="<pad>", eos_token="<pad>"
    )
