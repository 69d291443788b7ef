"""When a stream ends, and that its text is whole, held back, and cut where it must be."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from tidegate.sampling.finish import Limits, Progress, Rules, decide

END = 256


def detokenise(ids: Sequence[int]) -> str:
    """One byte a token, as a byte-level tokenizer without merges."""
    return bytes(token for token in ids if token != END).decode("utf-8", "replace")


def run(
    tokens: Sequence[int], text: bool = True, **limits: object
) -> tuple[list[str], str | None, int]:
    """The pieces let out, the reason, and how many tokens were taken."""
    fields = {"max_tokens": 10_000} | limits
    rules = Rules(Limits(**fields), frozenset({END}), detokenise, text)  # type: ignore[arg-type]
    progress, pieces = Progress(), []
    for count, token in enumerate(tokens, start=1):
        decision = decide(progress, token, rules)
        progress = decision.progress
        pieces.append(decision.text)
        if decision.reason is not None:
            return pieces, decision.reason, count
    return pieces, None, len(tokens)


def test_an_end_token_stops_and_is_no_text() -> None:
    pieces, reason, count = run([*b"ab", END, *b"cd"])
    assert ("".join(pieces), reason, count) == ("ab", "stop", 3)


def test_an_end_token_can_be_ignored() -> None:
    pieces, reason, _ = run([*b"ab", END, *b"cd"], ignore_eos=True)
    assert ("".join(pieces), reason) == ("abcd", None)


def test_the_last_allowed_token_ends_with_length() -> None:
    assert run(b"abcdef", max_tokens=4)[1:] == ("length", 4)


def test_an_end_token_in_the_last_place_is_a_stop() -> None:
    assert run([*b"abc", END], max_tokens=4)[1] == "stop"


def test_a_stop_string_in_the_last_place_is_a_stop() -> None:
    assert run(b"abcd", max_tokens=4, stop=("cd",))[1] == "stop"


def test_a_stop_string_is_not_part_of_the_text() -> None:
    pieces, reason, _ = run(b"hello STOP and on", stop=("STOP",))
    assert ("".join(pieces), reason) == ("hello ", "stop")


def test_what_may_begin_a_stop_string_is_held_back_until_it_is_clear() -> None:
    pieces, _, _ = run(b"aST0b", stop=("STOP",))
    assert pieces == ["a", "", "", "ST0", "b"]


def test_what_was_held_back_comes_out_at_the_end() -> None:
    pieces, reason, _ = run([*b"aSTO", END], stop=("STOP",))
    assert ("".join(pieces), reason) == ("aSTO", "stop")
    pieces, reason, _ = run(b"aSTO", stop=("STOP",), max_tokens=4)
    assert ("".join(pieces), reason) == ("aSTO", "length")


def test_of_several_stop_strings_the_first_in_the_text_counts() -> None:
    pieces, _, _ = run(b"abcdefgh", stop=("defgh", "cd"))
    assert "".join(pieces) == "ab"


def test_no_piece_ends_inside_a_character() -> None:
    pieces, _, _ = run("aé€😀z".encode())
    assert pieces == ["a", "", "é", "", "", "€", "", "", "", "😀", "z"]


def test_an_unfinished_character_at_the_end_is_shown_as_such() -> None:
    pieces, _, _ = run([*"a€".encode()[:-1], END])
    assert "".join(pieces) == "a\ufffd"


def test_bytes_that_never_become_a_character_do_not_pile_up() -> None:
    pieces, _, _ = run([0xFF] * 200)
    assert len("".join(pieces)) > 150


@given(text=st.text(max_size=60), stops=st.lists(st.text(min_size=1, max_size=4), max_size=3))
def test_the_pieces_are_the_text_up_to_the_first_stop_string(text: str, stops: list[str]) -> None:
    pieces, reason, count = run([*text.encode(), END], stop=tuple(stops))
    found = [text.find(stop) for stop in stops if stop in text]
    assert reason == "stop"
    if not found:
        assert "".join(pieces) == text
        assert count == len(text.encode()) + 1
        return
    # The token that completes the earliest match ends the stream.
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    seen = text[: min(ends)]
    cut = min(seen.find(stop) for stop in stops if stop in seen)
    assert "".join(pieces) == text[:cut]


@given(tokens=st.lists(st.integers(0, END), max_size=80), stop=st.text(min_size=1, max_size=3))
def test_both_halves_end_alike_though_only_one_needs_the_text(tokens: list[int], stop: str) -> None:
    for limits in ({"max_tokens": 20}, {"max_tokens": 20, "stop": (stop,)}):
        assert run(tokens, True, **limits)[1:] == run(tokens, False, **limits)[1:]
