"""What the outer half's log bills explains the bytes that its answers were."""

from __future__ import annotations

import json
import random
from typing import Any

from tidegate.scan.flow import Bin, fit
from tidegate.scan.ingest import billed

_WORDS = [" the", " gate", " keeps", " what", " users", " ask", ",", " and", " answers", "."]


async def test_the_bill_of_an_answer_predicts_its_bytes(make_site: Any, say: Any) -> None:
    drawn, bins = random.Random(2), []
    for number in range(80):
        site = make_site(say(*(drawn.choice(_WORDS) for _ in range(drawn.randint(5, 50)))))
        reply = await site.post(stream=number % 3 > 0)
        bill = billed(json.dumps(site.log[-1]).encode())
        assert bill is not None
        writes = [message for message in reply.sent[1:] if message.get("body")]
        assert bill.amounts[2] == len(writes)
        bins.append(Bin(float(number), len(reply.body), bill.amounts))
    predictor = fit(bins[:50])
    rest = bins[50:]
    assert max(abs(predictor.score(one)) for one in rest) < 5
    unexplained = sum(predictor.residual(one) for one in rest)
    assert abs(unexplained) < 0.01 * sum(one.sent for one in rest)
