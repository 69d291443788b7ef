"""How the files of spec/vectors are written."""

from __future__ import annotations

import msgspec


def lines(file: msgspec.Struct) -> bytes:
    """JSON with one case a line."""
    groups = []
    for name, group in msgspec.to_builtins(file).items():
        if isinstance(group, list):
            body = ",\n    ".join(msgspec.json.encode(case).decode() for case in group)
            groups.append(f'  "{name}": [\n    {body}\n  ]')
        else:
            groups.append(f'  "{name}": {msgspec.json.encode(group).decode()}')
    return ("{\n" + ",\n".join(groups) + "\n}\n").encode()
