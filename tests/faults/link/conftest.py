"""Makes the link's simulator importable as `link_world`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

if "link_world" not in sys.modules:
    path = Path(__file__).parents[2] / "simulators" / "link_world.py"
    spec = importlib.util.spec_from_file_location("link_world", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["link_world"] = module
    spec.loader.exec_module(module)
