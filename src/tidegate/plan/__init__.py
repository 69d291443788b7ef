"""The planner: is an upload limit worth it for this model, and what would a thief do about it?

Does: reads scenarios with units and sources, computes days to exfiltrate, caps, sensitivities.
Zone: owner, lab
Trusts: the figures it is given; each carries where it came from, and says so in every answer.
If owned: people decide on wrong pictures; it holds no key, weight or prompt.
"""
