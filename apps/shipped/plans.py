"""Training plans of the shipped checkpoints.

Both have their family's real architecture at a few million parameters, its special tokens and its chat template. They
are trained on complete conversations, user turns included, so that they can write instructions as well as responses.
"""

from dataclasses import dataclass
from typing import Any, Literal

from mlx_suite.training.loop import TrainSettings


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One phase of training: its documents and settings. The optimizer state is reset at its start."""

    documents: int
    train: TrainSettings
    batch: int = 16
    """Rows per step."""
    drill_share: float = 0.0
    """Share of documents that are retrieval drills."""
    practice_share: float = 0.0
    """Share of documents that are single-turn conversations of the `practised` tasks."""
    practised: tuple[str, ...] = ()
    echo_share: float = 0.0
    """Share of documents that are echoes, the simplest drill."""
    user_weight: float = 1.0
    """Loss weight of user tokens, relative to response tokens."""
    tag_share: float = 0.0
    """Share of documents that tag an instruction or a response."""
    steer_share: float = 0.0
    """Share of documents that are conversations after a steering text."""
    steered_user_weight: float = 0.5
    """Loss weight of user tokens after a steering text, which determines them."""
    weight_beside_labels: float = 1.0
    """Loss weight of all other documents relative to tags, whose labels are only a few tokens."""
    from_shipped: bool = False
    """Round the weights to bfloat16 first, as in a shipped checkpoint, so that training can start here from one."""


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """Everything that determines a checkpoint's weights."""

    name: str
    family: Literal["llama3", "gemma2"]
    config: dict[str, Any]
    """`config.json` without the special-token ids, which come from the tokenizer."""
    phases: tuple[Phase, ...]
    tokenizer_documents: int = 20_000
    """Number of documents to train the tokenizer on."""
    row_length: int = 128
    """Tokens per row; the few longer conversations are skipped."""
    seed: int = 0

    @property
    def tags(self) -> bool:
        """Whether any phase trains tagging."""
        return any(phase.tag_share for phase in self.phases)


LOOK_BACK = tuple(
    """
    list_index table_total table_largest table_smallest table_owner table_value count_in_list
    odd_one_out order_by_time moved_thing what_if_weather plan_of_day who_is_older first_of_three
    all_of_a_job name_some packing_list things_to_do uses_of_thing is_it_a kind_of print_sum
    multiply add subtract story_of_less story_of_more price_of_many compare_numbers replace_word
    """.split()
)
"""Tasks that models of this size learn last: retrieval from the instruction, and arithmetic."""

LAST_LEARNED = tuple(
    """
    order_by_time table_largest table_smallest table_owner table_value table_total count_in_list
    day_near month_near who_is_older first_of_three name_some things_to_do plan_of_day packing_list
    odd_one_out what_if_weather moved_thing is_it_a list_index
    """.split()
)
"""Tasks that tiny-llama3 still fails when it has learned the others."""

TINY_LLAMA3 = TrainingPlan(
    name="tiny-llama3",
    family="llama3",
    config={
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": 2048,
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
    },
    phases=(
        Phase(documents=320_000, train=TrainSettings(steps=3600, horizon=4800)),
        Phase(
            documents=150_000,
            train=TrainSettings(steps=800, horizon=3200, warmup=50, seed=1),
            drill_share=0.3,
            practice_share=0.4,
            practised=LOOK_BACK,
            user_weight=0.2,
        ),
        Phase(
            documents=15_000,
            train=TrainSettings(steps=250, horizon=2500, warmup=50, seed=2),
            drill_share=0.1,
            practice_share=0.1,
            practised=LOOK_BACK,
            echo_share=0.6,
            user_weight=0.2,
        ),
        Phase(
            documents=110_000,
            train=TrainSettings(steps=2200, warmup=50, seed=3),
            drill_share=0.15,
            practice_share=0.45,
            practised=LOOK_BACK,
            echo_share=0.05,
            user_weight=0.2,
        ),
        Phase(
            documents=32_000,
            train=TrainSettings(steps=700, learning_rate=1.2e-3, warmup=30, seed=4),
            drill_share=0.1,
            practice_share=0.5,
            practised=LAST_LEARNED,
            user_weight=0.2,
        ),
        Phase(
            documents=22_000,
            train=TrainSettings(steps=450, learning_rate=8e-4, warmup=20, seed=5),
            practice_share=0.6,
            practised=(*LAST_LEARNED, "all_of_a_job"),
            user_weight=0.2,
        ),
        Phase(
            documents=16_000,
            train=TrainSettings(steps=300, learning_rate=8e-4, warmup=20, seed=6),
            practice_share=0.6,
            practised=(*LAST_LEARNED, "all_of_a_job"),
            user_weight=0.2,
        ),
        Phase(
            documents=88_000,
            train=TrainSettings(steps=2400, learning_rate=1e-3, warmup=50, seed=7),
            practice_share=0.2,
            practised=(*LAST_LEARNED, "all_of_a_job"),
            user_weight=0.4,
            tag_share=0.38,
            steer_share=0.22,
            steered_user_weight=0.8,
            weight_beside_labels=0.4,
            from_shipped=True,
        ),
        Phase(
            documents=66_000,
            train=TrainSettings(steps=1800, learning_rate=8e-4, warmup=30, seed=8),
            practice_share=0.18,
            practised=(*LAST_LEARNED, "all_of_a_job"),
            user_weight=0.8,
            tag_share=0.36,
            steer_share=0.26,
            weight_beside_labels=0.5,
            steered_user_weight=1.0,
        ),
    ),
)

TINY_GEMMA2 = TrainingPlan(
    name="tiny-gemma2",
    family="gemma2",
    config={
        "architectures": ["Gemma2ForCausalLM"],
        "model_type": "gemma2",
        "vocab_size": 2048,
        "hidden_size": 160,
        "intermediate_size": 448,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 64,
        # Shorter than most conversations, so that the sliding-window layers matter.
        "sliding_window": 32,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "attention_bias": False,
    },
    phases=(
        Phase(
            documents=90_000,
            train=TrainSettings(steps=1200),
            drill_share=0.15,
            practice_share=0.25,
            practised=LOOK_BACK,
            echo_share=0.15,
            user_weight=0.5,
        ),
        Phase(
            documents=48_000,
            train=TrainSettings(steps=1000, learning_rate=1.5e-3, warmup=50, seed=1),
            drill_share=0.05,
            practice_share=0.25,
            practised=LOOK_BACK,
            user_weight=0.4,
        ),
        Phase(
            documents=42_000,
            train=TrainSettings(steps=1000, learning_rate=1.2e-3, warmup=50, seed=2),
            practice_share=0.2,
            practised=LOOK_BACK,
            user_weight=0.6,
            tag_share=0.36,
            steer_share=0.24,
            steered_user_weight=0.8,
            weight_beside_labels=0.4,
            from_shipped=True,
        ),
        Phase(
            documents=27_000,
            train=TrainSettings(steps=750, learning_rate=1e-3, warmup=30, seed=3),
            practice_share=0.15,
            practised=LOOK_BACK,
            tag_share=0.28,
            steer_share=0.24,
            weight_beside_labels=0.5,
        ),
    ),
)

PLANS = {plan.name: plan for plan in (TINY_LLAMA3, TINY_GEMMA2)}
