"""The demo's result in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tidegate.cli.demo_rows import (
    COMPRESSION,
    Account,
    Exfiltration,
    Model,
    Row,
    raw_bits,
    total,
    worse,
)

COLUMNS = (
    "prompt", "T", "tokens", "text\nbytes", "link\nbits", "bits/\ntoken",
    "raw\nids", "zstd", "plain\ncoding", "KL\nfloor", "exact",
)  # fmt: skip


def show(
    console: Console, model: Model, rows: Sequence[Row], account: Account, leak: Exfiltration
) -> None:
    """Print one line a request, sums by temperature and in all, the ledger, and days."""
    table = Table(
        title=escape(f"{model.strong} behind the link, {model.weak} outside"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for column in COLUMNS:
        justify: Literal["left", "right"] = "left" if column in ("prompt", "exact") else "right"
        # A narrow terminal may cut a prompt's id, but never a figure.
        table.add_column(column, justify=justify, no_wrap=column != "prompt")
    for row in sorted(rows, key=lambda row: (row.temperature, row.prompt_id)):
        table.add_row(escape(row.prompt_id), *_cells([row], model.vocab_size, row.temperature))
    table.add_section()
    for temperature in sorted({row.temperature for row in rows}):
        chosen = [row for row in rows if row.temperature == temperature]
        table.add_row("all", *_cells(chosen, model.vocab_size, temperature))
    table.add_section()
    table.add_row("in all", *_cells(rows, model.vocab_size, None), style="bold")
    console.print(table)
    sums = total(rows, model.vocab_size)
    console.print(
        "[dim]link bits: everything that crossed, padding and framing included; the other columns "
        "are bits a token of the same answers. At T = 0 the KL floor is the weak model's "
        "cross-entropy, which adaptation may beat.[/dim]"
    )
    left = "no cap" if account.left is None else f"{account.left:,} bits left"
    console.print(f"ledger ({account.profile}): {account.spent:,} bits spent, {left}")
    console.print(
        f"days to exfiltrate {model.weight_bytes / 1e6:,.0f} MB of weights, shrunk {COMPRESSION}x, "
        f"at this rate: [bold]{leak.with_link:,.1f}[/bold] through the link "
        f"({leak.bits_per_second:,.0f} bit/s), {leak.without_link:,.1f} without it "
        f"({leak.text_bits_per_second:,.0f} bit/s of text)"
    )
    if leak.at_cap is not None:
        console.print(f"and {leak.at_cap:,.1f} days at the ledger's daily cap, whatever is asked")
    console.print(escape(f"weak model: {model.weak_card} {worse_sentence(rows)}"))
    verdict = f"{sums.exact} of {sums.requests} answers decoded exactly"
    console.print(f"[{'green' if sums.exact == sums.requests else 'bold red'}]{verdict}[/]")


def worse_sentence(rows: Sequence[Row]) -> str:
    """How much worse the weak model is on these prompts."""
    ratios = [f"{ratio:,.1f} at T = {t:g}" for t, ratio in worse(rows).items()]
    if not ratios:
        return ""
    return f"Its perplexity on these answers, over the strong model's own: {', '.join(ratios)}."


def _cells(rows: Sequence[Row], vocab_size: int, temperature: float | None) -> list[str]:
    sums = total(rows, vocab_size)
    ways = sums.per_token
    return [
        "" if temperature is None else f"{temperature:g}",
        f"{sums.tokens:,}",
        f"{sums.text_bytes:,}",
        f"{sums.link:,}",
        f"{ways['link']:.2f}",
        f"{raw_bits(1, vocab_size)}",
        f"{ways['zstd']:.1f}",
        f"{ways['plain coding']:.2f}",
        f"{ways['KL floor']:.2f}",
        f"{sums.exact}/{sums.requests}" if len(rows) > 1 else ("yes" if sums.exact else "NO"),
    ]
