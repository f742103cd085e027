"""The dimensions of any model, for an estimate: exact for ours, coarse for others."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mlx_suite.checkpoints.config_file import SHARED_KEYS
from mlx_suite.modeling.config import OUR_TYPES, ModelConfig
from mlx_suite.runtime.errors import UserError


def model_config(source: Mapping[str, Any], where: str) -> tuple[ModelConfig, tuple[str, ...]]:
    """The dimensions of a model, and what is uncertain about them.

    Those of other architectures are taken as if the blocks were Llama's. Raises UserError where they are not told.
    """
    if source["model_type"] in OUR_TYPES:
        return ModelConfig.from_dict(source, where), ()
    flat = {**source, **(source.get("text_config") or {})}  # multimodal models nest the language model
    kept = {"rms_norm_eps": 1e-6} | {name: flat[name] for name in SHARED_KEYS if flat.get(name) is not None}
    kind = source["model_type"]
    try:
        config = replace(ModelConfig.from_dict(kept | {"model_type": "llama"}, where), model_type=kind)
    except UserError as error:
        raise UserError(
            f"Nothing can be estimated for {kind}: its configuration does not tell its dimensions",
            where=where,
            details=[error.what],
        ) from error
    experts = flat.get("num_experts") or flat.get("num_local_experts") or flat.get("n_routed_experts")
    note = f"a coarse estimate: {kind} is counted as if its blocks were Llama's"
    return config, (f"{note} with one MLP; it has {experts} experts, so it takes far more" if experts else note,)
