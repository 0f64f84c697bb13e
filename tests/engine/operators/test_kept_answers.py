"""Answers that are kept: bounded in number, bytes and age; the least recently used go first."""

from __future__ import annotations

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from engine.operators.kept_answers import KeptAnswers


def test_the_least_recently_used_goes_first() -> None:
    kept: KeptAnswers[int] = KeptAnswers(2, 10**6, 60)
    kept.put("u", "a", 1, 1)
    kept.put("u", "b", 2, 1)
    assert kept.get("u", "a") == 1
    kept.put("u", "c", 3, 1)
    assert (kept.get("u", "a"), kept.get("u", "b"), kept.get("u", "c")) == (1, None, 3)


def test_an_answer_grows_old() -> None:
    now = [0.0]
    kept: KeptAnswers[int] = KeptAnswers(9, 10**6, 60, lambda: now[0])
    kept.put("u", None, 1, 1)
    now[0] = 59.9
    assert kept.get("u", None) == 1
    now[0] = 60.0
    assert kept.get("u", None) is None
    assert (len(kept), kept.held) == (0, 0)


def test_what_is_too_large_is_not_kept() -> None:
    kept: KeptAnswers[int] = KeptAnswers(9, 1000, 60)
    kept.put("u", "a", 1, 2000)
    assert len(kept) == 0


def test_url_and_body_are_told_apart() -> None:
    kept: KeptAnswers[int] = KeptAnswers(9, 10**6, 60)
    pairs = [("a", "b"), ("ab", ""), ("ab", None), ("a", None), ("", "ab"), ("1:a", "b")]
    for number, (url, body) in enumerate(pairs):
        kept.put(url, body, number, 1)
    assert [kept.get(*each) for each in pairs] == list(range(len(pairs)))


@given(st.integers(0, 5), st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans(), st.integers(0, 900))))
def test_it_is_the_simplest_such_cache(entries: int, calls: list[tuple[str, bool, int]]) -> None:
    kept: KeptAnswers[int] = KeptAnswers(entries, 3000, 60)
    model: OrderedDict[str, tuple[int, int]] = OrderedDict()
    for number, (name, puts, size) in enumerate(calls):
        if not puts:
            found = model.get(name)
            if found is not None:
                model.move_to_end(name)
            assert kept.get(name, None) == (None if found is None else found[0])
            continue
        kept.put(name, None, number, size)
        if entries:
            model.pop(name, None)
            model[name] = (number, size + 256)
        while len(model) > entries or sum(cost for _, cost in model.values()) > 3000:
            model.popitem(last=False)
        assert kept.held == sum(cost for _, cost in model.values())
        assert len(kept) == len(model) <= entries
