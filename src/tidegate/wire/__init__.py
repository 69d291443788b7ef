"""The format of the link: inward messages, upload frames, and which may follow which.

Does: turns bytes into checked messages and frames and back, and keeps the link's state table.
Zone: inner, outer
Trusts: nothing that arrives; every byte is checked against a fixed limit and a closed grammar.
If owned: the attacker can break the link or misplace frames, which replay outside then refuses.
"""
