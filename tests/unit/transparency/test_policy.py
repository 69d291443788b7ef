from __future__ import annotations

import pytest
from log_world import ORIGIN, SIGNER, TRUSTED, LogWorld, cosigner

from tidegate.transparency.errors import CheckpointError
from tidegate.transparency.note import Checkpoint
from tidegate.transparency.policy import Policy, PolicyError, Witness, n_of, parse

KEYS = [cosigner(n).public.encode() for n in range(6)]
TEXT = f"""
# two of three here, and one of two there
log {SIGNER.verifier.encode()} https://log.example/vault/
witness a {KEYS[0]} https://a.example
witness\tb {KEYS[1]}
witness c {KEYS[2]}
group here 2 a b c
witness d {KEYS[3]}
witness e {KEYS[4]}
group there any d e
group both all here there
quorum both
"""


@pytest.mark.parametrize(
    ("cosigned", "enough"),
    [
        ("", False),
        ("ab", False),
        ("abc", False),
        ("de", False),
        ("ade", False),
        ("acd", True),
        ("abcde", True),
        ("bce", True),
    ],
)
def test_a_quorum_is_counted_through_its_groups(cosigned: str, enough: bool) -> None:
    assert parse(TEXT).satisfied(set(cosigned)) is enough


def test_a_policy_reads_back() -> None:
    policy = parse(TEXT)
    assert parse(policy.encode()) == policy
    assert policy.log(ORIGIN) == policy.logs[0]
    assert policy.logs[0].url == "https://log.example/vault/"
    assert policy.log("elsewhere") is None


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("quorum both", "first"),
        ("", "one `quorum`"),
        ("quorum nobody", "before"),
        ("quorum x y", "no log"),
        ("weather fine", "no log"),
        (f"witness a {KEYS[5]}\nquorum a", "twice"),
        (f"witness none {KEYS[5]}\nquorum none", "twice"),
        (f"witness z {KEYS[0]}\nquorum z", "two names"),
        (f"log {SIGNER.verifier.encode()}\nquorum none", "two names"),
        ("witness z nokey\nquorum z", "name"),
        ("group g 1 a\nquorum g", "two groups"),
        (f"witness z {KEYS[5]}\ngroup g 2 z\nquorum g", "all, any"),
        (f"witness z {KEYS[5]}\ngroup g 0 z\nquorum g", "all, any"),
        (f"witness z {KEYS[5]}\ngroup g 1 z z\nquorum g", "two groups"),
        ("group g 1 later\nquorum g", "before"),
    ],
)
def test_a_policy_that_could_be_read_two_ways_is_refused(line: str, match: str) -> None:
    text = TEXT if line == "quorum both" else TEXT.replace("quorum both\n", "")
    with pytest.raises(PolicyError, match=match):
        parse(text + line + "\n")


def test_n_of_m_asks_for_that_many() -> None:
    witnesses = tuple(Witness(f"w{n}", cosigner(n).public) for n in range(3))
    assert n_of(TRUSTED, witnesses, 2).satisfied(["w0", "w2"])
    assert not n_of(TRUSTED, witnesses, 2).satisfied(["w0", "w0", "stranger"])
    assert n_of(TRUSTED, (), 0).satisfied([])
    with pytest.raises(PolicyError):
        n_of(TRUSTED, witnesses, 4)


def test_a_note_opens_with_those_who_cosigned_it() -> None:
    world = LogWorld()
    world.grow(3)
    world.wires[2].cut = True
    note = world.publish().opened.note
    opened = world.policy.open(note)
    assert opened.quorum
    assert [one.name for one in opened.cosignatures] == [
        "witness.example/w0",
        "witness.example/w1",
    ]
    assert opened.checkpoint.size == 3
    assert not world.policy.open(world.log.sign(SIGNER).partition("— witness")[0]).quorum


def test_one_wrong_cosignature_of_a_known_witness_spoils_the_note() -> None:
    world = LogWorld()
    world.grow(1)
    world.publish()
    other = Checkpoint(ORIGIN, 1, bytes(32)).text()
    with pytest.raises(CheckpointError, match="wrong"):
        world.policy.open(world.log.sign(SIGNER) + cosigner(0).cosign(other, 9))


def test_a_log_that_is_not_named_is_not_trusted() -> None:
    world = LogWorld()
    world.grow(1)
    with pytest.raises(CheckpointError, match="does not name"):
        Policy(()).open(world.log.sign(SIGNER))
