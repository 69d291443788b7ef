"""Workers and verifications killed with SIGKILL: no result lost, none twice, none invented."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from replay_world import InProcess, Served, job, run_of, world

from tidegate.errors import EngineError, ModelError
from tidegate.verify.replay_answer import Rule, Task
from tidegate.verify.replay_model import Spec
from tidegate.verify.replay_pool import WINDOW, Pool

HERE = Path(__file__).parent
ANSWERS = 9


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    made = world(tmp_path_factory.mktemp("killed"))
    made.serve([job(f"r{n}", tokens=8, ignore_eos=True) for n in range(ANSWERS)])
    return made


@pytest.fixture(scope="module")
def tasks(served: Served) -> list[Task]:
    executor = InProcess(served)
    run = run_of(served, executor)
    run.round()
    return executor.tasks


def pool_of(served: Served, workers: int = 1) -> Pool:
    return Pool(Spec("exact", str(served.model), threads=1), workers=workers)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_results_of_several_workers_come_in_the_order_of_the_record(served: Served, tasks):
    with pool_of(served, workers=2) as pool:
        pool.begin(Rule())
        left, taken = list(tasks), []
        while left or pool.pending():
            while left and pool.room():
                pool.put(left.pop(0))
            assert pool.pending() <= 2 * WINDOW
            checked = pool.take()
            assert checked is not None
            taken.append(checked)
    assert [one.response for one in taken] == [task.response for task in tasks]
    assert all(one.findings == () and one.tokens == 8 for one in taken)


def test_an_answer_whose_worker_is_killed_is_re_executed_by_another(served: Served, tasks):
    with pool_of(served) as pool:
        pool.begin(Rule())
        (worker,) = pool.processes
        os.kill(worker, signal.SIGSTOP)  # so that it dies over the answer, not after it
        pool.put(tasks[0])
        pool.put(tasks[1])
        os.kill(worker, signal.SIGKILL)
        results = [pool.take(), pool.take()]
        assert pool.processes != (worker,)
    assert [one and one.findings for one in results] == [(), ()]
    assert [one and one.response for one in results] == [task.response for task in tasks[:2]]


def test_an_answer_that_kills_two_workers_is_a_finding_and_the_rest_goes_on(
    served: Served, tasks, monkeypatch: pytest.MonkeyPatch
):
    with pool_of(served) as pool:
        pool.begin(Rule())
        send = Pool._send

        def deadly(worker: object, raw: bytes) -> None:
            process = worker.process.pid  # type: ignore[attr-defined]
            deadly.count += 1  # type: ignore[attr-defined]
            if worker.job is not None and worker.job.task is tasks[0]:  # type: ignore[attr-defined]
                os.kill(process, signal.SIGSTOP)
                send(worker, raw)  # type: ignore[arg-type]
                os.kill(process, signal.SIGKILL)
            else:
                send(worker, raw)  # type: ignore[arg-type]

        deadly.count = 0  # type: ignore[attr-defined]
        monkeypatch.setattr(pool, "_send", deadly)
        pool.put(tasks[0])
        pool.put(tasks[1])
        lost, after = pool.take(), pool.take()
    assert lost is not None
    assert after is not None
    assert [finding.kind for finding in lost.findings] == ["worker_lost"]
    assert (lost.response, lost.tokens) == (tasks[0].response, 0)
    assert after.findings == ()


def test_workers_end_when_their_parent_is_killed(served: Served):
    script = (
        "import sys, time\n"
        "from tidegate.verify.replay_model import Spec\n"
        "from tidegate.verify.replay_pool import Pool\n"
        "if __name__ == '__main__':\n"
        "    with Pool(Spec('exact', sys.argv[1], threads=1)) as pool:\n"
        "        print(*pool.processes, flush=True)\n"
        "        time.sleep(600)\n"
    )
    path = served.folder / "parent.py"
    path.write_text(script)
    command = [sys.executable, str(path), str(served.model)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    assert alive(worker)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: not alive(worker))


def test_a_model_that_cannot_be_opened_is_an_error_and_not_a_result(tmp_path: Path):
    (tmp_path / "model").mkdir()
    with (
        pytest.raises((ModelError, EngineError)),
        Pool(Spec("exact", str(tmp_path / "model"))),
    ):
        pass


def test_a_killed_verification_goes_on_to_one_result_an_answer(served: Served):
    def live(lives: int) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(str(p) for p in (HERE.parents[1] / "simulators",))
        return subprocess.run(
            [sys.executable, str(HERE / "replay_worker.py"), str(served.folder), str(lives)],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    killed = live(5)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    last = live(ANSWERS)
    assert last.returncode == 0, last.stderr
    assert last.stdout.splitlines()[-1] == f"done {ANSWERS} {8 * ANSWERS} 0 98"
    results = (served.folder / "results").read_bytes().splitlines()
    numbers = [line.split(b'"response":')[1].split(b",")[0] for line in results[1:]]
    assert len(numbers) == len(set(numbers)) == ANSWERS
    again = live(0)
    assert again.stdout.splitlines() == last.stdout.splitlines()[-1:]
