"""The thief himself, as a program in the namespace `inner`.

`python -m tidegate.redteam.thief_sender ATTACK SECONDS` attacks, and prints what it offered.
"""

from __future__ import annotations

import sys

from tidegate.redteam.thief_catalogue import named
from tidegate.redteam.thief_kit import Kit


def main() -> None:
    """Run one attack."""
    kit = Kit(float(sys.argv[2]))
    named(sys.argv[1]).send(kit)
    sys.stdout.write(f"{kit.sent}\n")


if __name__ == "__main__":
    main()
