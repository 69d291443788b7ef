"""Accounts: what was granted, which keys were released, and what storage says was really read.

Does: reads access logs into one kind of event, adds up coverage of a model, settles the accounts.
Zone: owner, verifier
Trusts: that the logs it is given are complete where it finds no gap, and the grants' own log.
If owned: keeps silent about theft that was logged; the logs and the grants remain for another.
"""
