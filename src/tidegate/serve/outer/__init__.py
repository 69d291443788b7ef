"""The half that faces users: HTTP, keys, admission, the decoder's end of the link.

Does: turns requests into jobs, checks what the link brings, rebuilds answers, tells the ledger.
Zone: outer
Trusts: its own keyring, tokenizer, weak model and ledger; nothing a client or the inner half sends.
If owned: reads this half's prompts and answers and can bill its budgets; holds no weights.
"""
