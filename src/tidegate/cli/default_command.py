"""Groups of commands of which one needs no name."""

from __future__ import annotations

import typer
from typer.core import TyperGroup


def default_to(name: str) -> type[TyperGroup]:
    """A group in which arguments that begin with no command's name are those of `name`."""

    class Group(TyperGroup):
        def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
            if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
                args = [name, *args]
            return super().parse_args(ctx, args)

    return Group
