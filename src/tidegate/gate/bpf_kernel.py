"""The kernel's numbers for programs of traffic control (linux/bpf.h, linux/pkt_cls.h)."""

from __future__ import annotations

from typing import Final

LEN: Final = 0
"""Offset in `struct __sk_buff`, as are the next five."""
MARK: Final = 8
VLAN_PRESENT: Final = 20
CAME_IN_BY: Final = 36
"""`ingress_ifindex`; 0 for what this host made itself."""
WIRE_LEN: Final = 160
GSO_SIZE: Final = 176

MAP_LOOKUP: Final = 1
"""Helper function, as is the next one."""
LOAD_BYTES: Final = 26

GO_ON: Final = -1
"""TC_ACT_UNSPEC: whatever other filters say."""
DROP: Final = 2
"""TC_ACT_SHOT."""
