"""The two halves of a served model and the link between them.

Does: runs the strong model inside, decodes and rebuilds answers outside, in lock-step.
Zone: inner, outer
Trusts: each half only itself; what arrives over the link is checked against its own computation.
If owned: see `serve.inner` and `serve.outer`; the shared pieces here are pure.
"""
