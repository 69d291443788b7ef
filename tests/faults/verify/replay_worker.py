"""A verification that kills its own process before a given answer. Usage: FOLDER ANSWERS."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from proof_world import SHAPE
from replay_world import SIGNER, InProcess, Served, run_of

from tidegate.verify.replay_answer import Rule, Task
from tidegate.verify.replay_results import VERSION, Results, Subject

SUBJECT = Subject(
    version=VERSION,
    record=SIGNER.verifier.encode(),
    model="m",
    tokenizer="t",
    rule=Rule(),
    rate="1",
    by="token",
    commitment=bytes(32).hex(),
    secret="",
)


def main(folder: str, lives: int) -> None:
    served = Served(Path(folder))
    count = 0

    def before(task: Task) -> None:
        nonlocal count
        print(task.response, flush=True)
        count += 1
        if count > lives:
            os.kill(os.getpid(), signal.SIGKILL)

    results = Results(served.folder / "results", SUBJECT)
    run = run_of(served, InProcess(served, before=before), results=results)
    run.round()
    run.finish()
    tally = run.tally
    print("done", tally.replayed, tally.carried.scored, sum(tally.kinds.values()), SHAPE.vocab_size)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
