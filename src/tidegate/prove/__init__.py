"""Proof tiers: what a receipt, a re-execution, a projection and a Freivalds check each show.

Does: commits to an answer and its integer trace, and checks them with the weights or without.
Zone: inner, verifier, owner
Trusts: the owner's key file and the statement made outside; nothing that the prover sends.
If owned: as prover, his own claims only; as verifier, traces (hence weights) and the key.
"""
