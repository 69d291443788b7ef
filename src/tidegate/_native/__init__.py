"""C kernels for the loops over the vocabulary and the bits: noise, selection, range coding.

Every kernel has a reference in Python integers beside it in `sampling` or `coding`, and tests hold
the two equal.

Does: draws shared noise, picks tokens and candidates, codes symbols; no I/O, no hidden state.
Zone: any
Trusts: nothing; sizes are checked by the callers in `sampling` and `coding`.
If owned: whoever can replace the compiled module owns the process that loads it.
"""
