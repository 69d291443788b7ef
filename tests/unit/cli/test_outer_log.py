"""Settings become a record: what answers is named rightly or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from link_world import TableModel
from proof_world import write_folder

from tidegate.cli.outer_log import open_log, record_signer, seal_of, stack_of
from tidegate.config import Models, Record, Settings
from tidegate.errors import ConfigError, RecordError
from tidegate.transparency.note import Verifier
from tidegate.verify.record_reader import Expected, Reader
from tidegate.verify.record_seal import Opener
from tidegate.verify.record_store_files import FileSource


class Letters:
    """As much of a tokenizer as a stack names."""

    fingerprint = "b" * 64
    template_hash = ""


def settings(tmp_path: Path, **record: object) -> Settings:
    values = {"folder": tmp_path / "record", "key_file": tmp_path / "record.key", "model": "a" * 64}
    return Settings(models=Models(tokenizer="elsewhere"), record=Record(**{**values, **record}))


async def test_a_record_is_opened_and_read_with_the_key_beside_it(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    for _ in range(2):
        async with open_log(chosen, tmp_path / "record", Letters(), TableModel(), print):  # type: ignore[arg-type]
            with pytest.raises(RecordError):
                async with open_log(chosen, tmp_path / "record", Letters(), TableModel(), print):  # type: ignore[arg-type]
                    pass
    key = Verifier.parse((tmp_path / "record.key.pub").read_text().strip())
    assert key.name == "tidegate.local/record"
    expected = Expected(models=frozenset({"a" * 64}), tokenizers=frozenset({"b" * 64}))
    reader = Reader(FileSource(tmp_path / "record"), key, expected=expected)
    assert [*reader.read(), *reader.finish()] == []
    assert reader.summary().entries == reader.summary().signed == 2


def test_a_half_without_the_strong_model_must_be_told_its_fingerprint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[record\] model"):
        stack_of(settings(tmp_path, model=None), Letters(), TableModel())  # type: ignore[arg-type]


def test_a_converted_model_is_recorded_as_exact_whatever_engine_opens_it(tmp_path: Path) -> None:
    write_folder(tmp_path / "model")
    served = Settings(models=Models(strong=str(tmp_path / "model")), record=Record())
    stack = stack_of(served, Letters(), TableModel())  # type: ignore[arg-type]
    assert (stack.engine, stack.numerics) == ("exact", "as converted")


def test_a_signing_key_is_made_once(tmp_path: Path) -> None:
    first = record_signer(tmp_path / "key", "example.com/record")
    assert record_signer(tmp_path / "key", "example.com/record").verifier == first.verifier
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0


def test_what_is_private_is_sealed_to_the_key_in_the_settings(tmp_path: Path) -> None:
    assert seal_of(settings(tmp_path)).key == ""
    opener = Opener(X25519PrivateKey.generate())
    assert seal_of(settings(tmp_path, verifier=opener.public_key.hex())).key == opener.key
