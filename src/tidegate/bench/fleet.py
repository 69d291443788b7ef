"""What the parts of `tidegate bench fleet` are told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """What differs between machines."""

    vllm_python: Path | None = None
    """The Python of an environment that has vLLM; None: the part that needs it refuses."""
