"""From a secret seed and a model's logits to a token, the same on every machine.

Does: derives seeds, filters logits as vLLM does, draws counter-based noise, picks tokens.
Zone: any
Trusts: the seed key, which only the outer zone holds; logits are taken as they come.
If owned: chooses tokens freely within its zone; re-execution elsewhere shows it.
"""
