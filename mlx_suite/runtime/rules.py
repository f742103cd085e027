"""What the fields of settings must be, told all at once."""

from collections.abc import Mapping
from typing import Any

from mlx_suite.runtime.errors import UserError


def check_rules(settings: Any, rules: Mapping[str, tuple[bool, str]], where: str, command: str) -> None:
    """Raise UserError that lists the fields whose rule does not hold, and what they must be."""
    problems = [
        f"{name} is {getattr(settings, name)!r}: {wanted}" for name, (holds, wanted) in rules.items() if not holds
    ]
    if problems:
        raise UserError(
            "A setting is wrong" if len(problems) == 1 else f"{len(problems)} settings are wrong",
            where=where,
            fix=f"{command} says what each one means",
            details=problems,
        )
