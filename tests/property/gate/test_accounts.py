"""Whatever happens in whatever order, the disk never says less than what left."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from tidegate.gate.accounts import Change, State, Step, Used, opened, settled, tick
from tidegate.gate.policy import LIFETIME, Policy, parse

POLICY = parse("""
lifetime = 30_000
grant = 2_000
[interfaces]
inside = "a"
outside = "b"
[classes.api]
protocol = "any"
quota = 10_000
period_s = 10
""")


@dataclass
class Kernel:
    """nft's quotas as they behave: they count what they drop, and show no more than the limit."""

    limits: dict[str, int] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def load(self, step: Step, policy: Policy) -> None:
        for account in step.state.accounts:
            limit = min(account.granted, policy.quota_of(account.name))
            self.limits[account.object] = limit
            self.names[account.name] = account.object
            self.used.setdefault(account.object, dict(step.fresh).get(account.object, 0))

    def pass_on(self, size: int) -> bool:
        for name in ("api", LIFETIME):
            quota = self.names[name]
            self.used[quota] += size
            if self.used[quota] > self.limits[quota]:
                return False
        return True

    def read(self) -> tuple[Used, ...]:
        return tuple(
            Used(quota, min(self.used[quota], self.limits[quota]), self.limits[quota])
            for quota in self.names.values()
        )


events = st.lists(
    st.one_of(
        st.tuples(st.just("packet"), st.integers(40, 1500)),
        st.tuples(st.just("tick"), st.integers(0, 4000)),
        st.tuples(st.just("killed before the kernel was told"), st.integers(0, 4000)),
        st.tuples(st.just("killed"), st.just(0)),
        st.tuples(st.just("rebooted"), st.just(0)),
        st.tuples(st.just("stopped"), st.just(0)),
    ),
    max_size=150,
)


def _granted(state: State, name: str) -> int:
    account = state.of(name)
    return account.granted if account else 0


@given(events)
def test_nothing_that_left_is_forgotten_and_no_cap_is_passed(steps: list[tuple[str, int]]) -> None:
    boot, kernel = 0, Kernel()
    step = opened(POLICY, None, str(boot), ())
    disk = step.state
    kernel.load(step, POLICY)
    left = in_period = 0
    for event, amount in steps:
        if event == "packet":
            if kernel.pass_on(amount):
                left += amount
                in_period += amount
        elif event == "tick":
            step = tick(POLICY, disk, kernel.read(), amount)
            before, disk = disk, step.state
            if step.change is not None:
                kernel.load(step, POLICY)
            if _restarted(before, disk):
                in_period = 0
        elif event == "killed before the kernel was told":
            later = tick(POLICY, disk, kernel.read(), amount).state
            if not _restarted(disk, later):
                disk = later
                step = opened(POLICY, disk, str(boot), kernel.read())
                disk = step.state
                kernel.load(step, POLICY)
        else:
            if event == "stopped":
                disk = settled(disk, kernel.read())
            if event == "rebooted":
                boot, kernel = boot + 1, Kernel()
            step = opened(POLICY, disk, str(boot), kernel.read() if kernel.names else ())
            disk = step.state
            kernel.load(step, POLICY)
        assert left <= _granted(disk, LIFETIME)
        assert in_period <= _granted(disk, "api")
        assert left <= POLICY.lifetime
        assert in_period <= POLICY.classes["api"].quota


def _restarted(before: State, after: State) -> bool:
    old, new = before.of("api"), after.of("api")
    return bool(old and new and new.granted < old.granted)


def test_a_grant_that_ran_dry_is_followed_by_a_fresh_object() -> None:
    step = opened(POLICY, None, "boot", ())
    spent = tuple(
        Used(account.object, account.granted, account.granted) for account in step.state.accounts
    )
    after = tick(POLICY, step.state, spent, 0)
    assert after.change is Change.SWAP
    assert dict(after.fresh) == {"quota_api.2": 2_000, "quota_lifetime.2": 2_000}
    assert _granted(after.state, "api") == 4_000


def test_a_spent_quota_gets_nothing_until_its_period_ends() -> None:
    state = opened(POLICY, None, "boot", ()).state
    for _ in range(20):
        spent = tuple(Used(a.object, a.granted, a.granted) for a in state.accounts)
        state = tick(POLICY, state, spent, 0).state
    assert _granted(state, "api") == 10_000
    assert tick(POLICY, state, spent, 9_999).change is None
    again = tick(POLICY, state, spent, 10_000)
    assert _granted(again.state, "api") == 2_000
    assert _granted(again.state, LIFETIME) == 30_000


def test_a_clock_that_goes_back_gives_no_period_anew() -> None:
    state = opened(POLICY, None, "boot", ()).state
    assert tick(POLICY, state, (), -(10**9)).state == state


def test_taking_a_class_out_and_putting_it_back_is_no_refill() -> None:
    state = opened(POLICY, None, "boot", ()).state
    spent = tuple(Used(a.object, a.granted, a.granted) for a in state.accounts)
    other = parse(
        'lifetime = 30_000\ngrant = 2_000\ninterfaces = { inside = "a", outside = "b" }\n'
        'classes.web = { protocol = "any", quota = 5_000 }\n'
    )
    without = opened(other, state, "boot", spent).state
    back = opened(POLICY, without, "boot", ())
    assert dict(back.fresh)["quota_api.2"] == 2_000


def test_the_kernel_is_believed_where_it_counted_more_than_a_disk_from_a_backup() -> None:
    state = opened(POLICY, None, "boot", ()).state
    seen = tuple(Used(a.object, 7_000, 8_000) for a in state.accounts)
    assert _granted(opened(POLICY, state, "boot", seen).state, "api") == 7_000
