"""One port to a language model, and the adapters beside it.

Does: fetches pinned weights; runs models and tokenizers behind `port.Model`, `port.Tokenizer`.
Zone: inner, outer
Trusts: the pinned hashes it is shipped with; model files are read as data, never imported.
If owned: sees every prompt and answer of its zone; on the inner side it holds the weights.
"""
