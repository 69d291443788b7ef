"""The whole system in memory, and attackers who try to get bits out of it.

Does: runs attackers with receivers that decode, and holds what they got against the bounds.
Zone: lab
Trusts: the other rooms as they are; an attacker here knows everything but seeds before their use.
If owned: its figures are worthless; it holds no key, weight or prompt of anybody.
"""
