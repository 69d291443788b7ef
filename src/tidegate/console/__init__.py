"""The live web page: what could have left, how long a thief would need, and what is wrong now.

Does: reads the other rooms' figures once a second, keeps events, shows both to people logged in.
Zone: outer, verifier
Trusts: the files and services its settings name; browsers only as far as their session's role.
If owned: shows calm while something leaks; it holds no key of the link, ledger or weights.
"""
