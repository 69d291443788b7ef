"""C kernels for the loops over the vocabulary, the bits and the weights.

Every kernel has a reference in Python beside its caller, and tests hold the two equal.

Does: draws shared noise, picks tokens, codes symbols, multiplies integers; no I/O or hidden state.
Zone: any
Trusts: nothing; sizes are checked by the callers in `sampling`, `coding`, `models` and `prove`.
If owned: whoever can replace the compiled module owns the process that loads it.
"""

import os

# Read once, when the kernels' thread pool loads: idle threads that spin slow down everything else
# on the same cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
