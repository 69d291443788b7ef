"""Lanes in real processes: restarts one by one, kills, and ends in good order, under traffic."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator

import openai
import pytest
from lanes_mesh import INNERS, OUTERS, RANK, Mesh, until

from tidegate.cli.ground import budgets_of, lane_budgets
from tidegate.config import load
from tidegate.ledger import Budgets, Sound, SqliteStore, verify


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    # Sockets have short names.
    started = Mesh(tmp_path_factory.mktemp("m"))
    try:
        started.start_all()
        yield started
        for name in (*OUTERS, *INNERS, RANK):
            assert started.end(name) == 0, started.log(name)
            assert "Traceback" not in started.log(name)
    finally:
        started.close()


class Traffic:
    """Asks both outer halves without a pause; `failures` are what went wrong."""

    def __init__(self, mesh: Mesh) -> None:
        self._stop = threading.Event()
        self.failures: list[str] = []
        self.answers = 0
        self._threads = [threading.Thread(target=self._ask, args=(mesh, name)) for name in OUTERS]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, mesh: Mesh, name: str) -> None:
        while not self._stop.is_set():
            try:
                assert mesh.ask(name).usage.completion_tokens == 20
                self.answers += 1
            except openai.OpenAIError as error:
                self.failures.append(str(error))
            self._stop.wait(0.1)


def test_every_outer_half_reaches_every_inner_one_and_all_say_the_same(mesh: Mesh):
    said = {
        mesh.ask(name, temperature=0, extra_body={"prompt_cache_key": f"chat {n}"})
        .choices[0]
        .message.content
        for name in OUTERS
        for n in range(4)
    }
    assert len(said) == 1, "one model, on one host or over two, sealed or not"
    for name in OUTERS:
        lanes = mesh.control(name, "show").lanes
        assert [lane.name for lane in lanes] == list(INNERS)
        assert all(lane.tokens > 0 for lane in lanes)


def test_inner_halves_are_restarted_one_by_one_and_no_request_fails(mesh: Mesh):
    with Traffic(mesh) as traffic:
        for inner in INNERS:
            for outer in OUTERS:
                mesh.control(outer, "drain", inner)
                assert mesh.states(outer)[inner] == "drained"
            assert mesh.end(inner) == 0
            assert not mesh.ready(inner).exists()
            mesh.start(inner)
            mesh.until_ready(inner)
            for outer in OUTERS:
                mesh.control(outer, "undrain", inner)
        before = traffic.answers
        until(lambda: traffic.answers >= before + 4)
    assert traffic.failures == []
    for outer in OUTERS:
        until(lambda outer=outer: mesh.all_up(outer))


def test_a_killed_inner_half_cuts_off_its_own_streams_and_is_used_again_when_it_is_back(mesh: Mesh):
    name = OUTERS[0]
    assert cut_off(mesh, name, lambda: mesh.kill("east")) == [True, True]
    # Nobody waits for it: the other lane answers, and says so to whoever asks.
    assert mesh.ask(name).usage.completion_tokens == 20
    until(lambda: mesh.states(name) == {"east": "down", "west": "up"})
    done = mesh.command("lanes", "--json", name)
    assert (done.returncode, [lane["state"] for lane in json.loads(done.stdout)]) == (
        1,
        ["down", "up"],
    )
    assert '"lane": "east"' in mesh.log(name)
    mesh.start("east")
    mesh.until_ready("east")
    until(lambda: mesh.all_up(name))


def test_an_inner_half_that_is_told_to_stop_lets_its_streams_end_and_takes_no_more(mesh: Mesh):
    name = OUTERS[0]
    streams = [mesh.ask(name, stream=True, max_tokens=600) for _ in range(2)]
    for stream in streams:
        next(stream)
    mesh.processes["west"].terminate()
    until(lambda: not mesh.ready("west").exists())
    # It cannot tell anybody; what it turns away is answered by the other one.
    assert [mesh.ask(outer).usage.completion_tokens for outer in OUTERS] == [20, 20]
    assert mesh.processes["west"].wait(60) == 0
    assert [list(stream)[-1].choices[0].finish_reason for stream in streams] == ["length"] * 2
    assert mesh.ask(name).usage.completion_tokens == 20
    mesh.start("west")
    mesh.until_ready("west")
    for outer in OUTERS:
        until(lambda outer=outer: mesh.all_up(outer))


def cut_off(mesh: Mesh, name: str, end: Callable[[], None]) -> list[bool]:
    """Two long streams, one a lane, that are being answered when `end` happens; who was told."""
    streams = [mesh.ask(name, stream=True, max_tokens=1000) for _ in range(2)]
    for stream in streams:
        next(stream)
    end()
    told = []
    for stream in streams:
        try:
            told.append(list(stream)[-1].choices[0].finish_reason == "length")
        except openai.OpenAIError as error:
            told.append("link" in str(error))
    return told


def test_an_inner_half_that_loses_a_rank_is_down_until_the_rank_is_back(mesh: Mesh):
    name, pid = OUTERS[0], mesh.processes["east"].pid
    assert cut_off(mesh, name, lambda: mesh.kill(RANK)) == [True, True]
    until(lambda: mesh.states(name) == {"east": "down", "west": "up"})
    assert not mesh.ready("east").exists()
    assert "rank 1 of 2 is gone" in mesh.log("east")
    # Nothing falls into a lane that cannot answer.
    assert [mesh.ask(name).usage.completion_tokens for _ in range(3)] == [20] * 3
    mesh.start(RANK)
    for outer in OUTERS:
        until(lambda outer=outer: mesh.all_up(outer))
    before = {lane.name: lane.tokens for lane in mesh.control(name, "show").lanes}
    said = {
        mesh.ask(name, temperature=0, extra_body={"prompt_cache_key": f"chat {n}"})
        .choices[0]
        .message.content
        for n in range(6)
    }
    assert len(said) == 1
    after = {lane.name: lane.tokens for lane in mesh.control(name, "show").lanes}
    assert all(after[lane] > before[lane] for lane in INNERS)
    assert mesh.processes["east"].pid == pid
    assert mesh.processes["east"].poll() is None


def test_an_outer_half_that_is_told_to_stop_ends_its_answers_first(mesh: Mesh):
    name = OUTERS[1]
    streams = [mesh.ask(name, stream=True, max_tokens=1000) for _ in range(3)]
    for stream in streams:
        next(stream)
    mesh.processes[name].terminate()
    until(lambda: mesh.probe(name, "/ready") == 503)
    assert mesh.probe(name, "/live") == 200
    with pytest.raises(openai.APIStatusError) as caught:
        mesh.ask(name)
    assert caught.value.status_code == 503
    assert "retry-after" in caught.value.response.headers
    for stream in streams:
        assert list(stream)[-1].choices[0].finish_reason == "length"
    assert mesh.processes[name].wait(60) == 0
    mesh.start(name)
    mesh.until_ready(name)
    until(lambda: mesh.all_up(name))


def budgets(mesh: Mesh, name: str) -> Budgets:
    settings = load(mesh.folder / f"{name}.toml")
    plain = budgets_of(settings, 1)
    return lane_budgets(plain, settings) if name in INNERS else plain


@pytest.mark.parametrize("name", [*INNERS, *OUTERS])
def test_every_ledger_is_sound_after_all_that(mesh: Mesh, name: str):
    place = mesh.folder / (f"{name}-inner.sqlite" if name in INNERS else f"{name}.sqlite")
    assert isinstance(verify(SqliteStore(place), budgets(mesh, name)), Sound)
