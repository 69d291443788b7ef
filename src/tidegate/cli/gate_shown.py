"""What `tidegate gate plan` shows: rules as a diff."""

from __future__ import annotations

import difflib

from rich.syntax import Syntax

from tidegate.gate import host, nft, nft_render, tc_render
from tidegate.gate.accounts import State, Step, opened
from tidegate.gate.policy import Policy


def difference(before: Policy | None, after: Policy, state: State | None) -> Syntax | str:
    """What changes between two policies' rules, as a unified diff."""
    old = rendered(before, state) if before is not None else []
    lines = list(
        difflib.unified_diff(old, rendered(after, state), "applied", "planned", n=2, lineterm="")
    )
    if not lines:
        return "Nothing would change."
    return Syntax(
        "\n".join(lines), "diff", theme="ansi_dark", background_color="default", word_wrap=True
    )


def rendered(policy: Policy, state: State | None) -> list[str]:
    """Lines of everything that applying a policy tells the kernel."""
    step = _opened(policy, state)
    rules = nft_render.ruleset(policy, step.state, step.fresh).splitlines()
    behind = (*tc_render.guarding(policy), *tc_render.shaping(policy))
    return rules + [f"tc {line}" for line in behind]


def ask_kernel(policy: Policy, state: State | None) -> None:
    """Raises GateError where the kernel would not accept the policy's rules."""
    host.indices(policy)
    step = _opened(policy, state)
    text = nft_render.ruleset(policy, step.state, step.fresh)
    nft.check(nft_render.removed() + text)


def _opened(policy: Policy, state: State | None) -> Step:
    return opened(policy, state, "", ())
