"""Measurements a reader can repeat: every figure in the README is printed by one of these.

Does: runs the product beside its peers in one process and prints figures as a table or JSON.
Zone: lab
Trusts: the machine it runs on; figures are ratios, because machines differ and are shared.
If owned: the figures are worthless; nothing else is at stake.
"""
