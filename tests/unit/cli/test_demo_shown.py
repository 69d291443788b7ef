from __future__ import annotations

import io
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from tidegate.cli.demo_rows import Account, Model, Row, exfiltration
from tidegate.cli.demo_table import show

HOSTILE = "</script><script src='https://evil.example/x.js'></script>[red]"


def row(number: int, temperature: float, *, exact: bool = True) -> Row:
    return Row(
        prompt_id=f"p{number}{HOSTILE}" if number == 1 else f"p{number}",
        category="chat",
        temperature=temperature,
        tokens=10 * number,
        text_bytes=40 * number,
        zstd=300 * number,
        link=25 * number,
        plain=40.5 * number,
        kl=20.25 * number,
        exact=exact,
        seconds=1.0,
        first_token_seconds=0.2,
    )


ROWS = [row(1, 0.0), row(2, 0.7), row(3, 0.7)]
MODEL = Model(
    strong="strong [model]",
    weak="weak",
    vocab_size=49_152,
    weight_bytes=270_000_000,
    weak_card="A card of the weak model <b>.",
)
ACCOUNT = Account(profile="demo", spent=150, left=1_000, a_day=4_500_000)
LEAK = exfiltration(ROWS, 5.0, MODEL.weight_bytes, ACCOUNT.a_day)


def shown(rows: list[Row], width: int = 200) -> str:
    stream = io.StringIO()
    show(Console(file=stream, width=width), MODEL, rows, ACCOUNT, LEAK)
    return stream.getvalue()


def test_the_table_has_a_line_a_request_sums_and_a_verdict():
    text = shown(ROWS)
    assert "strong [model] behind the link" in text
    sums = next(line for line in text.splitlines() if line.strip().startswith("in all"))
    assert sums.split()[2:] == ["60", "240", "150", "2.50", "16", "30.0", "4.05", "2.02", "3/3"]
    assert HOSTILE in text
    assert "3 of 3 answers decoded exactly" in text


def test_the_table_names_an_answer_that_is_not_exact():
    text = shown([*ROWS, row(4, 1.0, exact=False)])
    assert " NO " in text
    assert "3 of 4 answers decoded exactly" in text


def test_no_figure_is_cut_on_a_narrow_terminal():
    wide = [replace(one, prompt_id="a-long-name-12345", link=98_765) for one in ROWS]
    cells = [cell for line in shown(wide, 80).splitlines() for cell in line.split()[1:]]
    assert not any("…" in cell for cell in cells)
    assert cells.count("98,765") >= len(wide)


class Fetches(HTMLParser):
    """What a browser would fetch or run from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [
            f"{tag} {name}={value}"
            for name, value in attrs
            if name in {"src", "href", "data", "srcset", "action", "poster"}
        ]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("plotly", reason="needs tidegate[report]")
    from tidegate.cli.demo_report import write

    path: Path = tmp_path_factory.mktemp("report") / "new" / "report.html"
    write(path, MODEL, ROWS, ACCOUNT, LEAK)
    return path.read_text(encoding="utf-8")


def test_the_report_fetches_nothing(page: str):
    parser = Fetches()
    parser.feed(page)
    assert parser.found == []
    styles = "".join(re.findall(r"<style>(.*?)</style>", page, re.S))
    assert "@import" not in styles
    assert "url(" not in styles


def test_the_report_tells_what_the_table_tells_and_quotes_what_is_hostile(page: str):
    outside_scripts = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert "3 / 3" in outside_scripts
    assert "A card of the weak model &lt;b&gt;." in outside_scripts
    assert "&lt;/script&gt;" in outside_scripts
    assert "<script src='https://evil.example" not in page
    assert page.count("Plotly.newPlot") >= 3


CHROMIUM = shutil.which("chromium")


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_browser_draws_the_report_without_a_network(page: str, tmp_path: Path):
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    done = subprocess.run(
        [
            str(CHROMIUM),
            *flags,
            f"--user-data-dir={tmp_path / 'profile'}",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--virtual-time-budget=5000",
            "--dump-dom",
            (tmp_path / "report.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.count('class="main-svg"') >= 3
