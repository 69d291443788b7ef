"""Hardware evidence: what a host says of itself, taken apart and held against reference values.

Does: parses evidence of TPMs, CPUs and GPUs, and appraises it in numbered checks.
Zone: owner, verifier
Trusts: the makers' root certificates, the reference values and the clock handed in.
If owned: any host passes for an attested one; approvals and the exact set are still asked for.
"""
