"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import fnmatch
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import help_blocks
import pytest
import zone_table

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "tidegate"
MAX_LINES = 400
WRITTEN = {".py", ".c", ".h"}
TEXT = WRITTEN | {".md", ".toml", ".json", ".jsonl", ".yaml", ".yml", ".html", ".lock", ".service"}


def _files(*suffixes: str) -> Iterator[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path.suffix in suffixes and path.is_file():
            yield path


@pytest.mark.parametrize("path", zone_table.packages(), ids=lambda path: path.parent.name)
def test_every_package_says_what_it_does_trusts_and_gives_away(path: Path) -> None:
    assert zone_table.room(path).zone


def test_every_folder_of_code_is_a_package() -> None:
    folders = {path.parent for path in SOURCE.rglob("*.py")}
    assert [folder.name for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_the_zone_table_is_current() -> None:
    text = zone_table.DOCUMENT.read_text()
    assert text == zone_table.renewed(text), "run `make docs`"


def test_files_can_be_read_in_one_sitting() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in _files(*WRITTEN)
        if path.is_relative_to(ROOT / "src") and (lines := path.read_text().count("\n")) > MAX_LINES
    }
    assert long == {}


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    places = re.compile(r"(?<![\w.~-])/(?:work|home|root|opt|Users)/\w")
    named = [
        f"{path.relative_to(ROOT)}: {found[0]}"
        for path in _files(*TEXT)
        if (found := places.search(path.read_text()))
    ]
    assert named == []


def test_the_outer_half_starts_without_the_strong_models_code() -> None:
    program = "import sys, tidegate.serve.outer; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    ).stdout.split()
    strong = {"torch", "transformers", "llama_cpp", "tidegate.models.transformers_torch"}
    assert strong & set(loaded) == set()


def _figure_keys(path: Path) -> Iterator[str]:
    """Keys that a bench reports, with `*` for what an f-string fills in."""
    for node in ast.walk(ast.parse(path.read_text())):
        pairs: list[tuple[ast.expr | None, ast.expr]] = []
        if isinstance(node, ast.Dict):
            pairs = list(zip(node.keys, node.values, strict=True))
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            pairs = [(node.targets[0].slice, node.value)]
        for key, value in pairs:
            called = value.func if isinstance(value, ast.Call) else None
            name = getattr(called, "id", getattr(called, "attr", ""))
            if name not in {"at_most", "at_least", "report", "Figure"}:
                continue
            if isinstance(key, ast.Constant):
                yield str(key.value)
            elif isinstance(key, ast.JoinedStr):
                parts = (
                    part.value if isinstance(part, ast.Constant) else "*" for part in key.values
                )
                yield "".join(map(str, parts))


EXTRAS = (
    "torch",
    "transformers",
    "vllm",
    "llama_cpp",
    "pyroute2",
    "pg8000",
    "pkcs11",
    "plotly",
    "openai",
    "ray",
    "fsspec",
    "s3fs",
    "moto",
)


def test_the_command_line_starts_without_the_extras() -> None:
    program = (
        f"import sys\nfor name in {EXTRAS!r}: sys.modules[name] = None\n"
        "from tidegate.cli.groups import COMMANDS, GROUPS\n"
        "for load in (*COMMANDS.values(), *GROUPS.values()): load()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_figure_of_a_bench_is_explained_in_the_readme() -> None:
    explained = re.findall(r"`([a-z0-9_.*]+)`", (ROOT / "README.md").read_text())
    missing = {
        key
        for path in (SOURCE / "bench").glob("*.py")
        for key in _figure_keys(path)
        if not any(fnmatch.fnmatch(word, key) or word == key for word in explained)
    }
    assert missing == set()


@pytest.mark.parametrize("command", help_blocks.commands(help_blocks.DOCUMENT.read_text()))
def test_the_readme_shows_what_help_prints(command: str) -> None:
    text = help_blocks.DOCUMENT.read_text()
    assert help_blocks.help_text(command) in text, "run `make docs`"


def test_pinned_packages_satisfy_the_project() -> None:
    pins = dict(
        re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)$", (ROOT / "requirements.lock").read_text(), re.M)
    )
    pinned = {re.sub(r"[-_.]+", "-", name).lower() for name in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    wanted = {re.split(r"[><=]", requirement)[0] for group in groups for requirement in group}
    # torch is installed first and alone; llama.cpp is built by whoever wants it.
    assert wanted - pinned == {"torch", "llama-cpp-python"}
