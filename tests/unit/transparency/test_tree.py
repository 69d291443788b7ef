from __future__ import annotations

import pytest

from tidegate.transparency import tree

# The leaves and roots that Certificate Transparency's own implementations test against.
LEAVES = [
    tree.leaf_hash(bytes.fromhex(leaf))
    for leaf in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
SIZES = range(1, 20)


def leaves(size: int) -> list[bytes]:
    return [tree.leaf_hash(bytes([n])) for n in range(size)]


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_certificate_transparency(size: int) -> None:
    assert tree.root_of(LEAVES[:size]).hex() == ROOTS[size]


@pytest.mark.parametrize("size", SIZES)
def test_every_leaf_proves_its_place_and_no_other(size: int) -> None:
    all_leaves = leaves(size)
    root = tree.root_of(all_leaves)
    for index, leaf in enumerate(all_leaves):
        proof = tree.inclusion_proof(all_leaves, index)
        assert tree.included(leaf, index, size, proof, root)
        assert not tree.included(tree.leaf_hash(b"forged"), index, size, proof, root)
        assert not tree.included(leaf, index, size, (*proof, root), root)
        assert not proof or not tree.included(leaf, index, size, proof[:-1], root)
        for other in range(size):
            assert (other == index) == tree.included(leaf, other, size, proof, root)


@pytest.mark.parametrize("size", SIZES)
def test_a_log_that_only_grew_proves_it_and_a_rewritten_one_cannot(size: int) -> None:
    all_leaves = leaves(size)
    root = tree.root_of(all_leaves)
    for old in range(size + 1):
        old_root = tree.root_of(all_leaves[:old])
        proof = tree.consistency_proof(all_leaves, old)
        assert tree.consistent(old, old_root, size, root, proof)
        assert not tree.consistent(old, tree.leaf_hash(b"forged"), size, root, proof)
        assert not tree.consistent(old, old_root, size, root, (*proof, root))
        if 0 < old < size:
            assert not tree.consistent(old, old_root, size, tree.leaf_hash(b"forged"), proof)
            assert not tree.consistent(old, old_root, size, root, proof[:-1])


def test_proofs_about_what_is_not_there_are_refused() -> None:
    with pytest.raises(IndexError):
        tree.inclusion_proof(leaves(3), 3)
    with pytest.raises(IndexError):
        tree.consistency_proof(leaves(3), 4)
    assert not tree.included(leaves(3)[0], 3, 3, (), tree.root_of(leaves(3)))
    assert not tree.consistent(4, b"", 3, b"", ())
