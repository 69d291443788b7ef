"""Llama- and Qwen2-type models whose logits are the same bits everywhere (`spec/exact.md`).

Sums run over integers only, every float operation is a single correctly rounded one, so neither
batch nor threads, BLAS or device can change a bit.

Does: opens converted folders, runs them behind `port.Model`, tests at start that bits are right.
Zone: inner, outer, verifier
Trusts: the folder's manifest, by its root hash; IEEE 754 arithmetic, once the self-test has passed.
If owned: as `tidegate.models`: sees its zone's prompts and, where weights are loaded, holds them.
"""
