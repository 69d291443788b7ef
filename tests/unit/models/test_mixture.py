from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidegate.errors import IntegrityError, ModelError
from tidegate.models import mixture, ngram
from tidegate.models.exact import format as folders
from tidegate.models.exact.seeded import tensors_of
from tidegate.models.exact.shape import Shape
from tidegate.models.mixture import MixtureManifest, MixtureModel

TOKENS = tuple(range(1, 80, 2))
SHAPE = Shape(
    family="llama",
    vocab_size=len(TOKENS) + mixture.EXTRA_ROWS,
    width=64,
    layers=2,
    heads=4,
    kv_heads=2,
    head_size=16,
    ffn_size=96,
    context_length=256,
    eps=1e-5,
    rope_theta=10_000.0,
    qkv_bias=False,
    tied=False,
)
VOCAB = 97


def write(folder: Path, ngram_manifest: Path, **changes: object) -> Path:
    """A mixture on disk whose student is drawn from a seed; returns its manifest."""
    drawn = tensors_of(SHAPE, "student", wide_embedding=True)
    student = folders.write(
        folder / "student",
        SHAPE,
        drawn.items(),
        name="small student",
        licence="Apache-2.0",
        provenance="drawn from a seed",
        source_sha256="",
        made_with="",
        settings={"eos_token_id": []},
        files={},
    )
    manifest = MixtureManifest(
        name="small mixture",
        licence="Apache-2.0",
        provenance="drawn from a seed",
        parameters=SHAPE.parameters,
        training_tokens=0,
        vocab_size=VOCAB,
        eos_ids=(2,),
        vocabulary_hash="",
        student="student",
        student_root=student.root,
        ngram=ngram.load(ngram_manifest).fingerprint,
        tokens=TOKENS,
    )
    path = folder / "mixture.json"
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, **changes)))
    return path


@pytest.fixture
def open_mixture(tmp_path: Path, ngram_manifest: Path) -> Callable[[], MixtureModel]:
    path = write(tmp_path, ngram_manifest)
    return lambda: mixture.load(path, ngram_path=ngram_manifest)


class Says:
    """A student that says the same whatever it reads."""

    vocab_size = SHAPE.vocab_size
    context_length = 50
    fingerprint = "made up"
    eos_ids: frozenset[int] = frozenset()
    exact = True

    def __init__(self, rest: float, gate: float, own: float = 0.0) -> None:
        self.said_C = np.array([own] * len(TOKENS) + [rest, gate], np.float32)

    def forward(self, batch):
        return np.tile(self.said_C, (len(batch), 1))


def mixed(ngram_manifest: Path, student: Says, text: list[int]) -> tuple[np.ndarray, ...]:
    """(the mixture's scores, the n-gram's, its base) after a text."""
    counts = ngram.load(ngram_manifest)
    manifest = MixtureManifest(
        name="",
        licence="",
        provenance="",
        parameters=0,
        training_tokens=0,
        vocab_size=VOCAB,
        eos_ids=(),
        vocabulary_hash="",
        student="",
        student_root="",
        ngram=counts.fingerprint,
        tokens=TOKENS,
    )
    model = MixtureModel(manifest, student, counts)  # type: ignore[arg-type]
    plain_V = ngram.load(ngram_manifest).forward([(0, text)])[0]
    return model.forward([(0, text)])[0], plain_V, counts.base_scores()


TEXT = [5, 9, 13, 5, 9, 13, 5, 9]
OWN_V = np.isin(np.arange(VOCAB), TOKENS)


def test_a_silent_student_leaves_the_ngram_as_it_is(ngram_manifest: Path):
    mixed_V, plain_V, _ = mixed(ngram_manifest, Says(rest=0, gate=0), TEXT)
    np.testing.assert_allclose(mixed_V, plain_V, atol=1e-5)


@given(gate=st.floats(-3, 3, width=32), rest=st.floats(-20, 20, width=32))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_scores_are_what_the_formula_says(ngram_manifest: Path, gate: float, rest: float):
    mixed_V, plain_V, base_V = mixed(ngram_manifest, Says(rest, gate, own=2.5), TEXT)
    trust = 1 + min(max(gate, -1), 1)
    expected_V = np.where(OWN_V, 2.5 + base_V + trust * (plain_V - base_V), plain_V + rest)
    np.testing.assert_allclose(mixed_V, expected_V, rtol=1e-5, atol=1e-4)


def test_a_closed_gate_forgets_what_the_ngram_has_seen(ngram_manifest: Path):
    mixed_V, plain_V, base_V = mixed(ngram_manifest, Says(rest=0, gate=-7), TEXT)
    assert np.abs(plain_V - base_V)[OWN_V].max() > 1
    np.testing.assert_array_equal(mixed_V[OWN_V], base_V[OWN_V])


texts = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=30)


@given(one=texts, more=texts, other=texts)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_no_bit_depends_on_neighbours_or_on_how_the_text_was_cut(
    open_mixture: Callable[[], MixtureModel], one: list[int], more: list[int], other: list[int]
):
    model = open_mixture()
    whole = model.forward([(0, one + more), (1, other)])[0]
    model.forward([(2, one)])
    np.testing.assert_array_equal(model.forward([(2, more)])[0], whole)


def test_scores_have_the_recorded_bits(open_mixture: Callable[[], MixtureModel]):
    """Fixed on one machine; a machine that differs cannot share a link with it."""
    model = open_mixture()
    digest = hashlib.sha256()
    for step in range(30):
        batch = [(number, [(step * step + 5 * number) % 45 + 1]) for number in range(3)]
        digest.update(model.forward(batch).astype("<f4").tobytes())
    assert digest.hexdigest() == "100e82d3a95fd22a6cce4e64f9a39ac2599b2e358d81c53840e22a0932c6e5c1"


def test_the_fingerprint_names_student_ngram_and_tokens(tmp_path: Path, ngram_manifest: Path):
    model = mixture.load(write(tmp_path, ngram_manifest), ngram_path=ngram_manifest)
    (tmp_path / "other").mkdir()
    tokens = (*TOKENS[:-1], TOKENS[-1] + 1)
    other = mixture.load(
        write(tmp_path / "other", ngram_manifest, tokens=tokens), ngram_path=ngram_manifest
    )
    assert model.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"ngram": "0" * 64}, IntegrityError, "another n-gram"),
        ({"student_root": "0" * 64}, IntegrityError, "not the student"),
        ({"tokens": TOKENS[:-1]}, ModelError, "logits"),
        ({"tokens": TOKENS[::-1]}, ModelError, "ascend"),
        ({"vocab_size": 96}, ModelError, "vocabular"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(
    tmp_path: Path,
    ngram_manifest: Path,
    changes: dict[str, object],
    error: type[ModelError],
    says: str,
):
    path = write(tmp_path, ngram_manifest, **changes)
    with pytest.raises(error, match=says):
        mixture.load(path, ngram_path=ngram_manifest)


def test_a_changed_weight_is_refused_by_file(tmp_path: Path, ngram_manifest: Path):
    path = write(tmp_path, ngram_manifest)
    weights = tmp_path / "student" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"model\.safetensors"):
        mixture.load(path, ngram_path=ngram_manifest)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"name": 3}'])
def test_a_damaged_manifest_is_refused_by_file(tmp_path: Path, content: bytes):
    path = tmp_path / "mixture.json"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"mixture\.json"):
        mixture.load(path)
    with pytest.raises(ModelError, match=r"absent\.json"):
        mixture.load(tmp_path / "absent.json")


def test_the_card_states_size_licence_and_provenance(
    open_mixture: Callable[[], MixtureModel],
):
    info = open_mixture().describe()
    assert dataclasses.asdict(info)["parameters"] == SHAPE.parameters
    assert info.licence == "Apache-2.0"
    assert info.provenance == "drawn from a seed"
