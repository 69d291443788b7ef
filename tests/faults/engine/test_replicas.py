"""Replicas that lack the plug-in, change, lie or die: named, put out of service, taken back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from link_world import VOCABULARY, TableModel
from structlog.testing import capture_logs
from vllm_server import VllmFaults, VllmServer, running

from tidegate.clock import ManualClock
from tidegate.errors import EngineDownError
from tidegate.models.engine_http import Http
from tidegate.models.engine_model import ModelEngine
from tidegate.models.engine_port import Ask, EngineLostError, EngineRefusedError
from tidegate.models.engine_replicas import Replicas
from tidegate.models.engine_vllm import Vllm
from tidegate.sampling.params import SamplingParams
from tidegate.units import Seconds

ASK = Ask(
    prompt=(3, 5, 8), seed=bytes(range(32)), params=SamplingParams(temperature=0.8), max_tokens=9
)
SOON = Seconds(0.02)


@contextmanager
def replicas(*servers: VllmServer, **settings: object) -> Iterator[Replicas]:
    dialect = Vllm(accepted=str(settings.pop("accepted", "")))
    urls = [server.url for server in servers]
    settings = {"retry": SOON, "grace": Seconds(0.2)} | settings
    engine = Replicas(dialect, urls, vocab_size=VOCABULARY, **settings)  # type: ignore[arg-type]
    try:
        yield engine
    finally:
        engine.close()


def whole(engine: Replicas, ask: Ask = ASK) -> list[int]:
    drawing = engine.start(ask)
    tokens = [drawing.take().token for _ in range(ask.max_tokens)]
    drawing.close()
    return tokens


def until(true: Callable[[], bool]) -> bool:
    for _ in range(400):
        if true():
            return True
        time.sleep(0.01)
    return False


EXPECTED = whole(ModelEngine(TableModel(1.5)))  # type: ignore[arg-type]

BAD = {
    "plug-in missing": (VllmFaults(plugin=False), "plug-in is not installed"),
    "other noise": (VllmFaults(other_noise=True), "other noise"),
    "version unknown": (VllmFaults(version="0.99.1"), "0.99.1"),
    "plug-in of another contract": (VllmFaults(contract=9), "tidegate refuses contract_version"),
    "no token ids": (VllmFaults(token_ids=False), "return_token_ids"),
    "garbage": (VllmFaults(garbage=True), "none of its own"),
    "dies within the probe": (VllmFaults(break_after=3), "does not answer"),
    "reports an error": (VllmFaults(report_after=3), "reported an error"),
    "overloaded": (VllmFaults(status=503), "503"),
    "locked": (VllmFaults(status=401), "401"),
}


@pytest.mark.parametrize(("faults", "said"), BAD.values(), ids=BAD)
def test_a_bad_replica_alone_is_refused_and_named(faults: VllmFaults, said: str):
    server = VllmServer(faults=replace(faults))
    with running(server), pytest.raises(EngineRefusedError) as refused, replicas(server):
        pass
    assert said in refused.value.message
    assert server.url in refused.value.message


@pytest.mark.parametrize(("faults", "said"), BAD.values(), ids=BAD)
def test_beside_a_good_replica_a_bad_one_is_alarmed_and_never_asked(faults: VllmFaults, said: str):
    good, bad = VllmServer(), VllmServer(faults=replace(faults))
    with running(good, bad), capture_logs() as logs, replicas(good, bad) as engine:
        asked = len(bad.asked)
        assert [whole(engine) for _ in range(4)] == [EXPECTED] * 4
        assert [state.up for state in engine.replicas()] == [True, False]
        assert said in engine.replicas()[1].reason
        assert not [body for body in bad.asked[asked:] if body["prompt"] == list(ASK.prompt)]
    alarms = [log for log in logs if log["event"] == "engine_replica_down"]
    assert alarms
    assert {alarm["url"] for alarm in alarms} == {bad.url}


def test_other_weights_behind_one_of_the_addresses_are_found():
    good, other = VllmServer(), VllmServer(blur=2.0)
    with running(good, other), replicas(good, other) as engine:
        assert "other weights" in engine.replicas()[1].reason
        assert whole(engine) == EXPECTED


def test_a_mended_replica_is_taken_back():
    good, bad = VllmServer(), VllmServer(faults=VllmFaults(plugin=False))
    with running(good, bad), capture_logs() as logs, replicas(good, bad) as engine:
        assert not engine.replicas()[1].up
        bad.faults.plugin = True
        assert until(lambda: engine.replicas()[1].up)
        assert whole(engine) == EXPECTED
    ups = [log["url"] for log in logs if log["event"] == "engine_replica_up"]
    assert ups == [good.url, bad.url]


def test_a_replica_that_was_restarted_without_the_plug_in_is_found_at_the_next_look():
    server, clock = VllmServer(), ManualClock()
    with running(server), replicas(server, recheck=Seconds(300.0), clock=clock) as engine:
        server.faults.plugin = False
        clock.advance(301)
        assert until(lambda: not engine.replicas()[0].up)
        with pytest.raises(EngineDownError):
            engine.start(ASK)
        with pytest.raises(EngineDownError):
            engine.recover()
        server.faults.plugin = True
        assert until(lambda: engine.replicas()[0].up)
        engine.recover()


def test_weights_that_change_behind_an_address_are_found_at_the_next_look():
    server, clock = VllmServer(), ManualClock()
    with running(server), replicas(server, recheck=Seconds(300.0), clock=clock) as engine:
        server.table.table_VV[:] = TableModel(1.5, blur=2.0).table_VV
        clock.advance(301)
        assert until(lambda: not engine.replicas()[0].up)
        assert "other weights than before" in engine.replicas()[0].reason


def test_a_version_that_its_operator_has_measured_is_accepted():
    server = VllmServer(faults=VllmFaults(version="0.99.1"))
    with running(server), replicas(server, accepted="0.99.1") as engine:
        assert whole(engine) == EXPECTED
        assert "0.99.1" in engine.describe().provenance


def test_a_replica_that_dies_in_an_answer_is_looked_at_before_it_is_asked_again():
    server = VllmServer()
    with running(server), replicas(server) as engine:
        server.faults.break_after = 4
        drawing = engine.start(ASK)
        assert [drawing.take().token for _ in range(4)] == EXPECTED[:4]
        with pytest.raises(EngineLostError):
            drawing.take()
        assert until(lambda: not engine.replicas()[0].up)
        server.faults.break_after = None
        assert until(lambda: engine.replicas()[0].up)
        assert whole(engine) == EXPECTED


def test_an_answer_that_vllm_gives_up_is_lost_and_not_shortened():
    server = VllmServer()
    with running(server), replicas(server) as engine:
        server.faults.report_after = 2
        drawing = engine.start(ASK)
        for _ in range(2):
            drawing.take()
        with pytest.raises(EngineLostError, match="reported an error"):
            drawing.take()


@pytest.mark.parametrize("fault", ["garbage", "token_ids"])
def test_a_replica_that_begins_to_send_nonsense_is_put_out_of_service(fault: str):
    server = VllmServer()
    with running(server), replicas(server) as engine:
        setattr(server.faults, fault, fault == "garbage")
        with pytest.raises(EngineLostError):
            engine.start(ASK).take()
        assert until(lambda: not engine.replicas()[0].up)
        setattr(server.faults, fault, fault != "garbage")
        assert until(lambda: engine.replicas()[0].up)


def test_several_tokens_in_one_event_are_all_taken_in_order():
    server = VllmServer()
    with running(server), replicas(server) as engine:
        server.faults.bundle = 4
        assert whole(engine) == EXPECTED


def test_an_engine_that_falls_silent_is_not_waited_for_for_ever():
    server = VllmServer()
    with running(server), replicas(server, http=Http(patience=Seconds(0.3))) as engine:
        server.faults.bundle = 100
        ask = replace(ASK, max_tokens=50)
        server.table.touch = lambda *_: time.sleep(0.02)
        with pytest.raises(EngineLostError):
            engine.start(ask).take()


def test_hanging_up_lets_the_engine_stop():
    server = VllmServer()
    with running(server), replicas(server) as engine:
        server.table.touch = lambda *_: time.sleep(0.005)
        drawing = engine.start(replace(ASK, max_tokens=500))
        drawing.take()
        drawing.close()
        assert until(lambda: not server.table.sequences)


def test_the_emptiest_replica_is_asked():
    servers = (VllmServer(), VllmServer())
    with running(*servers), replicas(*servers) as engine:
        before = [len(server.asked) for server in servers]
        drawings = [engine.start(replace(ASK, max_tokens=400)) for _ in range(6)]
        for drawing in drawings:
            drawing.take()
        assert [len(s.asked) - b for s, b in zip(servers, before, strict=True)] == [3, 3]
        for drawing in drawings:
            drawing.close()


def test_an_address_named_twice_is_refused():
    with pytest.raises(EngineRefusedError):
        Replicas(Vllm(), ["http://a:1", "http://a:1"], vocab_size=VOCABULARY)


def test_nobody_there_is_refused_with_the_address():
    with pytest.raises(EngineRefusedError, match=r"127\.0\.0\.1:9"):
        Replicas(Vllm(), ["http://127.0.0.1:9"], vocab_size=VOCABULARY)


def test_the_key_is_sent_and_appears_in_no_error():
    server = VllmServer(faults=VllmFaults(status=401))
    with running(server), pytest.raises(EngineRefusedError) as refused:
        Replicas(Vllm(), [server.url], vocab_size=VOCABULARY, key="sesame-sesame")
    assert "sesame" not in refused.value.message
