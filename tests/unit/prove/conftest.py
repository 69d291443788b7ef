from __future__ import annotations

import pytest
from proof_world import UNTIED, Bundle, World, ask, make_world

from tidegate.prove.statement import Statement


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world") / "model", UNTIED)


@pytest.fixture(scope="session")
def honest(world: World) -> tuple[Statement, Bundle]:
    """36 positions, so two blocks."""
    return world.prove(ask(prompt=25, tokens=12))
