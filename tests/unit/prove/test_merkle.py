"""The tree kept level by level is the ledger's tree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.prove.merkle import Tree, path_length
from tidegate.transparency.tree import included, inclusion_proof, leaf_hash, root_of


@given(st.integers(0, 70), st.data())
def test_roots_and_paths_are_the_ledgers(size: int, data: st.DataObject) -> None:
    leaves = [leaf_hash(bytes([number])) for number in range(size)]
    tree = Tree(leaves)
    assert tree.root == root_of(leaves)
    if size:
        index = data.draw(st.integers(0, size - 1))
        path = tree.path(index)
        assert path == inclusion_proof(leaves, index)
        assert path_length(index, size) == len(path)
        assert included(leaves[index], index, size, path, tree.root)


@pytest.mark.parametrize("index", [-1, 3])
def test_there_is_no_path_to_a_leaf_that_is_not_there(index: int) -> None:
    with pytest.raises(IndexError):
        Tree([leaf_hash(b""), leaf_hash(b"a"), leaf_hash(b"b")]).path(index)
