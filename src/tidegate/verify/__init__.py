"""Re-execution: what was served, checked against what the model gives, and what could have leaked.

Does: records, selects, replays and scores answers; bounds hidden bits; raises alarms.
Zone: outer, verifier
Trusts: the log's signer, its own copy of the model, its own seed key; nothing the inner half says.
If owned: sees the prompts and answers it checks and holds the weights; a false pass can be bought.
"""
