"""Tokens to bits and back, lossless and canonical.

Does: ranks candidates by weak scores and shared noise, range-codes the token, replays to check.
Zone: inner, outer, verifier
Trusts: that both sides hold the same integer scores; the hash echo or an exact model sees to it.
If owned: the decoded tokens are the attacker's, but no more bits cross than the frames hold.
"""
