"""`tidegate vault parts`: what it tells operators is what hosts then ask keys for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from proof_world import UNTIED, write_folder
from sealed_world import OWNER
from typer.testing import CliRunner

from tidegate.cli.half_sealed import part_of
from tidegate.cli.main import app
from tidegate.cli.vault_parts import ranges
from tidegate.vault.kms_local import LocalKms
from tidegate.vault.open_part import shards_of
from tidegate.vault.open_sealed import open_sealed
from tidegate.vault.seal import seal


def test_every_rank_is_told_the_shards_that_it_will_open(tmp_path: Path):
    write_folder(tmp_path / "plain", replace(UNTIED, layers=4))
    kms = LocalKms.create(tmp_path / "kms")
    folder = tmp_path / "sealed"
    seal(tmp_path / "plain", folder, model="tiny", kms=kms, signer=OWNER, shard_bytes=4_000)
    (tmp_path / "owner.pub").write_text(OWNER.verifier.encode() + "\n")
    words = ["vault", "parts", str(folder), "--owner", str(tmp_path / "owner.pub"), "--ranks", "2"]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    manifest = open_sealed(folder, OWNER.verifier).manifest
    assert [(part["first_layer"], part["last_layer"]) for part in told] == [(0, 1), (2, 3)]
    for part in told:
        needed = shards_of(manifest, part_of(part["rank"], 2))
        assert part["shards"] == ranges(needed)
        assert part["bytes"] == sum(manifest.shard(number).size for number in needed)
    shown = CliRunner().invoke(app, words)
    assert told[1]["shards"][:8] in shown.stdout
    refused = CliRunner().invoke(app, [*words[:-1], "9"])
    assert refused.exit_code != 0


@pytest.mark.parametrize(
    ("numbers", "text"), [((), ""), ((4,), "4"), ((0, 1, 2, 3, 7), "0-3,7"), ((1, 3, 4), "1,3-4")]
)
def test_shards_are_written_as_requests_take_them(numbers: tuple[int, ...], text: str):
    assert ranges(numbers) == text
