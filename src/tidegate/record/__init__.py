"""What is written down of every answer, and the one byte string that says it.

Does: defines the record's entries, their canonical bytes and what of them only a verifier may read.
Zone: outer, verifier
Trusts: nothing that it parses; every entry is checked against a closed grammar and fixed limits.
If owned: the record says what he likes; checkpoints kept elsewhere show what it said before.

The room lies below both `serve`, whose outer half writes these entries, and `verify`, which reads
them: neither may import the other, and one definition keeps them from drifting apart. For the same
reason the envelopes in which any room reports findings, `sarif` and `ocsf`, are here. Pure.
"""
