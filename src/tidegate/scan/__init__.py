"""What a payload or a flow looks like: weight bytes under their wrappings, shifts in traffic.

Does: takes bytes and counts, and says what in them looks like weights or unlike honest use.
Zone: outer, verifier
Trusts: nothing that it reads; its references and thresholds come from whoever calibrated it.
If owned: stays silent about what leaves; the gate's quotas and meters do not depend on it.
"""
