"""Tidegate keeps a model's weights from leaving: a user keeps the API, the model host gets a meter.

Does: holds the rooms; itself only the ground they stand on: errors, units, clock, settings.
Zone: any
Trusts: the Python process it runs in.
If owned: whoever can change this package decides what the process that loads it does.
"""

__version__ = "0.1.0"
