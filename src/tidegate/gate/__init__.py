"""The host's side of the cap: what the kernel lets out, and meters that watch it.

Does: renders one policy into nftables and tc, keeps quotas over kills and reboots, meters, latches.
Zone: outer
Trusts: the gate's kernel and its root; the tap's host stands apart and need not trust either.
If owned: opens the host's egress wide; the tap's count outside shows by how much and when.
"""
