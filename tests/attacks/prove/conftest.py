from __future__ import annotations

from pathlib import Path

import pytest
from proof_world import UNTIED, Bundle, World, ask, make_world

from tidegate.prove.statement import Statement


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder: Path = tmp_path_factory.mktemp("world") / "model"
    return make_world(folder, UNTIED)


@pytest.fixture(scope="session")
def honest(world: World) -> tuple[Statement, Bundle]:
    """A proof that passes; 36 positions, so two blocks."""
    return world.prove(ask(prompt=25, tokens=12))
