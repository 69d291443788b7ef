"""Custody of the weights: sealed shards, grants that several teams approve, keys released once.

Does: seals and opens shards, decides on grants, releases data keys to attested hosts, ends leases.
Zone: owner, inner
Trusts: the key service that wraps data keys, the approvers' keys and the makers' roots of evidence.
If owned: as broker, every key whose grant is open and every later one; the log shows each release.
"""
