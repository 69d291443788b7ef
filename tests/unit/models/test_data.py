"""What is shipped inside the package."""

from __future__ import annotations

import json
from importlib import resources

PERMITTED = {"MIT", "Apache-2.0"}


def test_every_packaged_prompt_keeps_its_source_and_a_permissive_licence():
    text = (resources.files("tidegate") / "data" / "prompts.jsonl").read_text("utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    assert len(rows) >= 300
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        assert row["prompt"].strip()
        assert row["source"]
        assert row["licence"] in PERMITTED
    assert rows == sorted(rows, key=lambda row: row["id"])
