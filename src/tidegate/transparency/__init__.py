"""The log that cannot be rewritten unseen: a Merkle tree, signed checkpoints, witnesses.

Does: appends entries to a tree, signs and checks checkpoints, proves inclusion and consistency.
Zone: any
Trusts: its own signing key and its store; a reader needs only the keys of log and witnesses.
If owned: appends what the attacker likes, but cannot show two histories unless witnesses help.
"""
