"""Cron expressions: what is taken, what is refused, and that Dagster's own reader takes the same."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsl.contracts.spec import OptionError
from dsl.schedule import Overlap, Schedule, Trigger, TriggerType, cron_fault

GOOD = [
    "0 0 * * *",
    "*/5 * * * *",
    "0 9-17/2 * * mon-fri",
    "0,30 * 1,15 * *",
    "5/15 * * * *",
    "0 0 29 2 *",
    "0 0 31 * 1",
    "0 0 * JAN,jul Sun",
    "59 23 31 12 7",
    "@hourly",
    "@daily",
]
BAD = {
    "": "has 0 fields",
    "* * * *": "has 4 fields",
    "* * * * * *": "has 6 fields",
    "60 * * * *": "'60' is no minute (from 0 to 59)",
    "* 24 * * *": "is no hour",
    "* * 0 * *": "is no day of the month",
    "* * * 13 *": "is no month",
    "* * * * 8": "is no day of the week",
    "*/0 * * * *": "'*/0' is no minute",
    "17-9 * * * *": "is no minute",
    "1,,2 * * * *": "'' is no minute",
    "1- * * * *": "is no minute",
    "-1 * * * *": "is no minute",
    "? * * * *": "is no minute",
    "* * L * *": "is no day of the month",
    "* * * foo *": "is no month",
    "٣ * * * *": "is no minute",
    "0 0 30 2 *": "never comes",
    "0 0 31 2 1": "never comes",
    "0 0 31 4,6 *": "never comes",
    "@reboot": "has 1 fields",
    "@annualy": "has 1 fields",
}


@pytest.mark.parametrize("cron", GOOD)
def test_a_cron_expression_is_taken(cron: str) -> None:
    assert cron_fault(cron) == ""


@pytest.mark.parametrize(("cron", "said"), BAD.items())
def test_what_is_none_is_refused(cron: str, said: str) -> None:
    assert said in cron_fault(cron)


@given(st.from_regex(re.compile(r"([0-9*/,-]{1,6} ){4}[0-9*/,-]{1,6}", re.ASCII), fullmatch=True))
def test_dagster_takes_what_is_taken(cron: str) -> None:
    from dagster._utils.schedules import is_valid_cron_schedule

    if cron_fault(cron) == "":
        assert is_valid_cron_schedule(cron)


@pytest.mark.parametrize("cron", [each for each in GOOD if not each.startswith("@")])
def test_dagster_takes_the_examples(cron: str) -> None:
    from dagster._utils.schedules import is_valid_cron_schedule

    assert is_valid_cron_schedule(cron)


def test_a_macro_becomes_what_it_stands_for() -> None:
    assert Schedule(cron="@weekly").cron == "0 0 * * 0"
    assert Schedule(cron="@daily", overlap=Overlap.QUEUE).overlap == "queue"


@pytest.mark.parametrize(
    "zone", ["", "Berlin", "../../etc/passwd", "/etc/localtime", "Europe", "UTC+1", "Europe/Berlin\x00"]
)
def test_a_time_zone_that_is_none_is_refused(zone: str) -> None:
    with pytest.raises(OptionError, match="is not a time zone"):
        Schedule(cron="@daily", timezone=zone)


def test_a_trigger_needs_what_it_waits_for_and_nothing_else() -> None:
    assert Trigger(type=TriggerType.FILE).path is None
    with pytest.raises(OptionError, match="needs `asset`"):
        Trigger(type=TriggerType.ASSET)
    with pytest.raises(OptionError, match="'path' has no meaning"):
        Trigger(type=TriggerType.ASSET, asset=("a",), path="x")
    with pytest.raises(OptionError, match="'asset' has no meaning"):
        Trigger(type=TriggerType.FILE, asset=("a",))
