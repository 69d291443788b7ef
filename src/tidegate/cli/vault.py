"""`tidegate vault`: custody of weights. Its commands are in `vault_*.py`; `main` puts them in."""

from __future__ import annotations

import typer

app = typer.Typer(
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Custody of the weights: shards sealed under keys of their own, opened into memory only, "
    "and keys that leave once, under a grant that every team approved. "
    "See docs/howto/vault-seal.md and docs/howto/vault.md. "
    "Exits 0: done, 1: refused, or not as it was sealed, 2: could not run.",
)
