"""What is shipped inside the package."""

from __future__ import annotations

import json
from importlib import resources

from tidegate.models import mixture, ngram
from tidegate.models.exact.format import read

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


def test_the_packaged_student_belongs_to_the_packaged_ngram_and_says_where_it_comes_from():
    with resources.as_file(resources.files("tidegate") / "data") as folder:
        manifest = mixture.read_manifest(folder / mixture.PACKAGED)
        student = read(folder / manifest.student)
        size = sum(path.stat().st_size for path in student.folder.iterdir())
    counts = ngram.load()
    assert manifest.student_root == student.root
    assert manifest.ngram == counts.fingerprint
    assert manifest.vocabulary_hash == counts.manifest.vocabulary_hash
    assert student.shape.vocab_size == len(manifest.tokens) + mixture.EXTRA_ROWS
    assert manifest.licence in PERMITTED
    assert "no weight of the strong model" in manifest.provenance
    assert set(manifest.card) == {"0.0", "0.7", "1.0"}
    assert size <= 40_000_000
    assert manifest.parameters <= 56_600_000 / 4
