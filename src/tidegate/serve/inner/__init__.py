"""The half beside the weights: generates, encodes, and answers pulls.

Does: runs the strong model a step at a time and hands out exactly the bytes that are pulled.
Zone: inner
Trusts: its own models and configuration; the outer half is authenticated but otherwise untrusted.
If owned: the attacker holds the weights here, and gets out what the outer half pulls and pays for.
"""
