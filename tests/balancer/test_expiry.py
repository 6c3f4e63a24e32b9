"""The table whose entries die of age."""

from __future__ import annotations

import math
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from srsproxy.balancer.expiry import ExpiringTable


def make_table(limit: int = 10) -> tuple[ExpiringTable[str, int], list[int]]:
    dropped: list[int] = []
    return ExpiringTable(10.0, limit, dropped.append), dropped


def test_an_entry_dies_a_lifetime_after_it_was_stored() -> None:
    table, dropped = make_table()
    table.store("a", 1, now=0)
    assert table.expire(9.999) == []
    assert table.get("a") == table["a"] == 1
    assert table.expire(10) == [1]
    assert table.get("a") is None
    assert "a" not in table
    assert dropped == [1]


def test_renewing_an_entry_prolongs_its_life_and_reading_it_does_not() -> None:
    table, _dropped = make_table()
    table.store("a", 1, now=0)
    table.store("b", 2, now=0)
    table.renew("a", now=5)
    table.get("b")
    assert table.expire(10) == [2]
    assert table.expire(14) == []
    assert table.expire(15) == [1]


def test_renewing_what_is_not_there_does_nothing() -> None:
    table, _dropped = make_table()
    table.renew("a", now=5)
    assert len(table) == 0


def test_a_value_that_is_replaced_or_removed_is_told_once() -> None:
    table, dropped = make_table()
    table.store("a", 1, now=0)
    table.store("a", 2, now=5)
    assert dropped == [1]
    table.remove("a")
    table.remove("a")
    assert dropped == [1, 2]
    assert table.expire(100) == []


def test_a_full_table_loses_the_entry_that_was_not_touched_for_longest() -> None:
    table, dropped = make_table(limit=2)
    table.store("a", 1, now=0)
    table.store("b", 2, now=1)
    table.renew("a", now=2)
    table.store("c", 3, now=3)
    assert dropped == [2]
    assert table.values() == [1, 3]


def test_replacing_a_value_in_a_full_table_evicts_nothing_else() -> None:
    table, dropped = make_table(limit=2)
    table.store("a", 1, now=0)
    table.store("b", 2, now=1)
    table.store("a", 3, now=2)
    assert dropped == [1]
    assert table.values() == [2, 3]


def test_the_lives_are_those_of_all_in_the_order_in_which_they_end() -> None:
    table, _dropped = make_table()
    assert table.lives(0) == []
    table.store("a", 1, now=0)
    table.store("b", 2, now=2)
    table.renew("a", now=3)
    assert table.lives(4) == [("b", 2, 8), ("a", 1, 9)]


def test_clearing_tells_every_value_and_leaves_none() -> None:
    table, dropped = make_table()
    table.clear()
    table.store("a", 1, now=0)
    table.store("b", 2, now=1)
    table.clear()
    assert dropped == [1, 2]
    assert len(table) == 0
    assert table.next_deadline == math.inf
    table.store("a", 3, now=2)
    assert table.values() == [3]


STEPS = st.lists(
    st.tuples(st.sampled_from(["store", "renew", "remove"]), st.sampled_from("abcde"), st.integers(0, 7)), max_size=60
)


@given(STEPS)
def test_it_is_a_bounded_dictionary_of_the_entries_that_are_young_enough(steps: list[tuple[str, str, int]]) -> None:
    dropped: list[int] = []
    table: ExpiringTable[str, int] = ExpiringTable(10.0, 3, dropped.append)
    model: dict[str, tuple[int, float]] = {}
    now = 0.0
    values: Iterator[int] = iter(range(len(steps)))
    stored = 0
    for step, key, passed in steps:
        now += passed
        table.expire(now)
        model = {key: (value, touched) for key, (value, touched) in model.items() if now < touched + 10}
        if step == "store":
            value = next(values)
            stored += 1
            model.pop(key, None)
            if len(model) == 3:
                del model[next(iter(model))]
            model[key] = (value, now)
            table.store(key, value, now)
        elif step == "renew":
            if key in model:
                model[key] = (model.pop(key)[0], now)
            table.renew(key, now)
        else:
            model.pop(key, None)
            table.remove(key)
        assert table.values() == [value for value, _touched in model.values()]
        assert all((table.get(name) is not None) == (name in model) for name in "abcde")
        assert len(dropped) == stored - len(model)
