"""The command line: one file a command group, and the only place where adapters are chosen.

Does: reads settings, builds the halves from their parts, runs them, shows results.
Zone: any
Trusts: its settings file, and whoever may start processes on the machine.
If owned: whatever the half that it starts gains.
"""
