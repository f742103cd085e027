"""`mlx-suite magpie`: a command with stages beside it.

    mlx-suite magpie MODEL --count 200 --out demo/     the whole pipeline
    mlx-suite magpie filter demo/ --out good/          one stage

A first word that is no stage is the model. A folder that is called like a stage can be reached as ./filter.
"""

import difflib
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from mlx_suite.runtime.errors import UserError

from .magpie import magpie
from .magpie_export import magpie_export
from .magpie_filter import magpie_filter
from .magpie_pairs import magpie_pairs
from .magpie_reflect import magpie_reflect
from .magpie_report import report
from .magpie_tag import magpie_calibrate, magpie_tag

PIPELINE = "magpie"
"""Name of the command that stands for the group itself. No user ever writes it: a model of this name is `./magpie`."""


class _PipelineContext(typer.Context):
    """The whole pipeline's command has no word of its own on the command line."""

    @property
    def command_path(self) -> str:
        return super().command_path.rstrip()


class PipelineOrStage(TyperGroup):
    """Runs a stage if the first word is one, else the command called `PIPELINE`, which the group takes for itself."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.pipeline = self.commands.pop(PIPELINE)
        self.pipeline.context_class = _PipelineContext
        self._shown = TyperGroup(
            name=self.name,
            commands=dict(self.commands),
            params=self.pipeline.params,
            help=self.pipeline.help,
            rich_markup_mode=self.rich_markup_mode,
            subcommand_metavar="",
        )

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        self._check_stage(args)
        own = not args or args[0] in self.commands or args[0] in self.get_help_option_names(ctx)
        return super().parse_args(ctx, args if own else [PIPELINE, *args])

    def _check_stage(self, args: list[str]) -> None:
        """Raises UserError for a first word that is nearly a stage and no model."""
        near = difflib.get_close_matches(args[0], self.commands, n=1, cutoff=0.7) if args else []
        if near and args[0] not in self.commands and not Path(args[0]).exists():
            raise UserError(f"There is no stage {args[0]!r}", where="mlx-suite magpie", fix=f"did you mean {near[0]}?")

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        if args[0] == PIPELINE:
            return "", self.pipeline, args[1:]
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The pipeline's own help with the stages behind it."""
        self._shown.format_help(ctx, formatter)


magpie_app = typer.Typer(
    name="magpie",
    cls=PipelineOrStage,
    help="Let a chat model write instructions and answer them; tag, filter, report on and export what it wrote.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)
magpie_app.command(PIPELINE)(magpie)
magpie_app.command("tag")(magpie_tag)
magpie_app.command("calibrate")(magpie_calibrate)
magpie_app.command("filter")(magpie_filter)
magpie_app.command("report")(report)
magpie_app.command("export")(magpie_export)
magpie_app.command("pairs")(magpie_pairs)
magpie_app.command("reflect")(magpie_reflect)
