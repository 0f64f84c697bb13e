"""Edge values of dates, times, timestamps and intervals; data only."""

from __future__ import annotations

from collections.abc import Mapping

from resources.testing.edge_model import DUCKDB, MYSQL, POSTGRES, SQLITE, Family, family
from resources.testing.meanings import Day, Forever, Meaning, Moment, Span, TimeOfDay, Unfit

_DAY = 86_400 * 10**9
_SECOND = 10**9
_LAST = _DAY - 1_000
_NOON = _DAY // 2
_WALLS = {POSTGRES: "timestamp", MYSQL: "DATETIME(6)", SQLITE: "TIMESTAMP", DUCKDB: "TIMESTAMP"}
_INSTANTS = {POSTGRES: "timestamptz", MYSQL: "TIMESTAMP(6) NULL", SQLITE: "TIMESTAMPTZ", DUCKDB: "TIMESTAMPTZ"}

_DAYS: dict[str, Meaning] = {
    "epoch": Day(1970, 1, 1), "before_epoch": Day(1969, 12, 31), "first": Day(1, 1, 1), "year_1_end": Day(1, 12, 31),
    "year_100": Day(100, 2, 28), "before_1000": Day(999, 12, 31), "year_1000": Day(1000, 1, 1), "julian_gap": Day(1582, 10, 10),
    "leap": Day(2024, 2, 29), "leap_2000": Day(2000, 2, 29), "not_leap": Day(1900, 2, 28), "last": Day(9999, 12, 31),
    "year_2038": Day(2038, 1, 19), "year_2106": Day(2106, 2, 7), "1900": Day(1900, 1, 1),
}  # fmt: skip
_FAR_DAYS: dict[str, Meaning] = {
    "year_0": Day(0, 12, 31), "year_0_leap": Day(0, 2, 29), "year_minus_1": Day(-1, 1, 1), "4713_bc": Day(-4712, 1, 1),
    "year_10000": Day(10_000, 1, 1), "year_99999": Day(99_999, 12, 31), "year_5874897": Day(5_874_897, 12, 31),
    "year_290000": Day(290_000, 6, 15),
    "year_67560": Day(67_560, 3, 4),
}  # fmt: skip


def _date(system: str, day: Day) -> str | None:
    """Writes a date: years before 1 are BC, and only some systems have them or those after 9999."""
    far = not 1 <= day.year <= 9999
    if far and system in {MYSQL, SQLITE}:
        return None
    year, era = (day.year, "") if day.year > 0 else (1 - day.year, " (BC)" if system == DUCKDB else " BC")
    return f"{year:04}-{day.month:02}-{day.day:02}{era}"


def _clock(nanoseconds: int) -> str:
    seconds, fraction = divmod(nanoseconds, _SECOND)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{fraction // 1000:06}"


def _write_day(system: str, meaning: Meaning) -> str | None:
    assert isinstance(meaning, Day)
    text = _date(system, meaning)
    return None if text is None else f"'{text}'"


def _write_time(system: str, meaning: Meaning) -> str | None:
    del system
    assert isinstance(meaning, TimeOfDay)
    return f"'{_clock(meaning.nanoseconds)}'"


def _write_moment(system: str, meaning: Meaning) -> str | None:
    assert isinstance(meaning, Moment)
    text = _date(system, meaning.day)
    if text is None or (system == MYSQL and meaning.zoned and not 1970 <= meaning.day.year <= 2037):
        return None
    if system == MYSQL and meaning.zoned and meaning.day == Day(1970, 1, 1) and meaning.nanoseconds == 0:
        return None  # the number 0 stands for no time at all there
    day, _, era = text.partition(" ") if system == POSTGRES else (text, "", "")
    zone = (
        "+00" if meaning.zoned and system in {POSTGRES, DUCKDB} else "Z" if meaning.zoned and system == SQLITE else ""
    )
    return f"'{day} {_clock(meaning.nanoseconds)}{zone}{' ' + era if era else ''}'"


def _moments(*, zoned: bool) -> dict[str, Meaning]:
    found: dict[str, Meaning] = {}
    for name, day in _DAYS.items():
        assert isinstance(day, Day)
        found[name] = Moment(day, 0, zoned)
        found[f"{name}_end"] = Moment(day, _LAST, zoned)
    found["noon"] = Moment(Day(2024, 3, 31), _NOON, zoned)
    found["one_microsecond"] = Moment(Day(2024, 3, 31), 1_000, zoned)
    found["in_no_european_hour"] = Moment(Day(2024, 3, 31), 9_000 * _SECOND, zoned)
    found["in_two_european_hours"] = Moment(Day(2024, 10, 27), 9_000 * _SECOND, zoned)
    for name, day in _FAR_DAYS.items():
        assert isinstance(day, Day)
        if day.year <= 290_000:
            found[name] = Moment(day, _NOON, zoned)
    return found


_FOREVER: Mapping[str, tuple[Meaning, Mapping[str, str]]] = {
    "infinity": (Forever(future=True), {POSTGRES: "'infinity'", DUCKDB: "'infinity'"}),
    "minus_infinity": (Forever(future=False), {POSTGRES: "'-infinity'", DUCKDB: "'-infinity'"}),
}
_STRANGE_DAYS: Mapping[str, tuple[Meaning, Mapping[str, str]]] = {
    "zero": (Unfit("0000-00-00"), {MYSQL: "'0000-00-00'", SQLITE: "'0000-00-00'"}),
    "no_month": (Unfit("2024-00-10"), {MYSQL: "'2024-00-10'", SQLITE: "'2024-00-10'"}),
    "no_day": (Unfit("2024-02-00"), {MYSQL: "'2024-02-00'", SQLITE: "'2024-02-00'"}),
    "no_such_day": (Unfit("2024-02-30"), {MYSQL: "'2024-02-30'", SQLITE: "'2024-02-30'"}),
    "word": (Unfit("tomorrow"), {SQLITE: "'tomorrow'"}),
    "a_number": (Unfit("20240101"), {SQLITE: "20240101"}),
    "short": (Unfit("2024-1-1"), {SQLITE: "'2024-1-1'"}),
    "empty": (Unfit(""), {SQLITE: "''"}),
}


def _zone(offset: str, *systems: str) -> dict[str, str]:
    return dict.fromkeys(systems, f"'2024-01-01 00:00:00{offset}'")


_ALL_ZONES = (POSTGRES, SQLITE, DUCKDB)
_ZONES: Mapping[str, tuple[Meaning, Mapping[str, str]]] = {
    "east": (Moment(Day(2023, 12, 31), 10 * 3600 * _SECOND, zoned=True), _zone("+14:00", *_ALL_ZONES)),
    "west": (Moment(Day(2024, 1, 1), 12 * 3600 * _SECOND, zoned=True), _zone("-12:00", *_ALL_ZONES)),
    "half_hour": (Moment(Day(2023, 12, 31), 66_600 * _SECOND, zoned=True), _zone("+05:30", *_ALL_ZONES)),
    "quarter": (Moment(Day(2023, 12, 31), 65_700 * _SECOND, zoned=True), _zone("+05:45", *_ALL_ZONES)),
    "by_name": (
        Moment(Day(2024, 7, 1), 4 * 3600 * _SECOND, zoned=True),
        {POSTGRES: "'2024-07-01 00:00:00 America/New_York'"},
    ),
    "mysql_last": (Moment(Day(2038, 1, 19), 11_647 * _SECOND, zoned=True), {MYSQL: "'2038-01-19 03:14:07'"}),
    "zero": (Unfit("0000-00-00 00:00:00.000000"), {MYSQL: "'0000-00-00 00:00:00'"}),
}

_SPANS: dict[str, Meaning] = {
    "nothing": Span(0, 0, 0), "month": Span(1, 0, 0), "thirty_days": Span(0, 30, 0), "day": Span(0, 1, 0),
    "24_hours": Span(0, 0, 86_400_000_000), "year": Span(12, 0, 0), "minus_month_and_day": Span(-1, 1, 0),
    "mixed_signs": Span(1, -1, 1), "microsecond": Span(0, 0, 1), "minus_microsecond": Span(0, 0, -1),
    "minus_day_and_hour": Span(0, -1, 3_600_000_000), "long": Span(0, 0, 100 * 3_600_000_000 + 1),
    "1000_years": Span(12_000, 0, 0), "much": Span(14, 40, 90_061_000_001), "minus_much": Span(-14, -40, -90_061_000_001),
}  # fmt: skip


def _write_span(system: str, meaning: Meaning) -> str | None:
    del system
    assert isinstance(meaning, Span)
    return f"'{meaning.months} months {meaning.days} days {meaning.microseconds} microseconds'"


def _nanoseconds(system: str, meaning: Meaning) -> str | None:
    del system
    assert isinstance(meaning, Moment)
    seconds, fraction = divmod(meaning.nanoseconds, _SECOND)
    day, clock = meaning.day, f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{fraction:09}"
    return f"'{day.year:04}-{day.month:02}-{day.day:02} {clock}'"


MOMENTS: tuple[Family, ...] = (
    family(
        "date",
        {POSTGRES: "date", MYSQL: "DATE", SQLITE: "DATE", DUCKDB: "DATE"},
        {**_DAYS, **_FAR_DAYS},
        _write_day,
        {**_FOREVER, **_STRANGE_DAYS},
    ),
    family(
        "time",
        {POSTGRES: "time", MYSQL: "TIME(6)", SQLITE: "TIME", DUCKDB: "TIME"},
        {
            "midnight": TimeOfDay(0), "microsecond": TimeOfDay(1_000), "noon": TimeOfDay(_NOON), "last": TimeOfDay(_LAST),
            "last_second": TimeOfDay(_DAY - _SECOND), "a_tenth": TimeOfDay(100_000_000),
        },
        _write_time,
        {
            "24": (TimeOfDay(_DAY), {POSTGRES: "'24:00:00'", MYSQL: "'24:00:00'", DUCKDB: "'24:00:00'"}),
            "most": (TimeOfDay(3_020_399 * _SECOND + 999_999_000), {MYSQL: "'838:59:59.999999'"}),
            "least": (TimeOfDay(-3_020_399 * _SECOND), {MYSQL: "'-838:59:59'"}),
            "below_zero": (TimeOfDay(-1_000), {MYSQL: "'-00:00:00.000001'"}),
            "minute_60": (Unfit("00:60:00"), {SQLITE: "'00:60:00'"}),
            "word": (Unfit("noon"), {SQLITE: "'noon'"}),
        },
    ),
    family(
        "timetz",
        {POSTGRES: "timetz"},
        {},
        _write_time,
        {
            "east": ("00:00:00+15:59", {POSTGRES: "'00:00:00+15:59'"}),
            "west": ("23:59:59.999999-15:59", {POSTGRES: "'23:59:59.999999-15:59'"}),
            "24": ("24:00:00+00", {POSTGRES: "'24:00:00+00'"}),
        },
    ),
    family(
        "timestamp",
        _WALLS,
        _moments(zoned=False),
        _write_moment,
        {
            **_FOREVER,
            "zero": (Unfit("0000-00-00 00:00:00.000000"), {MYSQL: "'0000-00-00 00:00:00'"}),
            "no_month": (Unfit("2024-00-10 01:02:03.000000"), {MYSQL: "'2024-00-10 01:02:03'"}),
            "no_such_day": (Unfit("2024-02-30 01:02:03.000000"), {MYSQL: "'2024-02-30 01:02:03'"}),
            "word": (Unfit("now"), {SQLITE: "'now'"}),
            "seconds": (Unfit("1704067200"), {SQLITE: "1704067200"}),
            "leap_second": (Unfit("2016-12-31 23:59:60"), {SQLITE: "'2016-12-31 23:59:60'"}),
            "nanoseconds": (Moment(Day(2024, 1, 1), 1), {SQLITE: "'2024-01-01 00:00:00.000000001'"}),
        },
    ),
    family("timestamptz", _INSTANTS, _moments(zoned=True), _write_moment, {**_FOREVER, **_ZONES}),
    family(
        "timestamp_ns",
        {DUCKDB: "TIMESTAMP_NS"},
        {
            "nanosecond": Moment(Day(2024, 1, 1), 1), "microsecond": Moment(Day(2024, 1, 1), 1_000),
            "last_nanosecond": Moment(Day(2024, 1, 1), _DAY - 1), "before_epoch": Moment(Day(1969, 12, 31), _DAY - 1),
            "1700": Moment(Day(1700, 1, 1), 0), "2262": Moment(Day(2262, 4, 11), 0),
        },
        _nanoseconds,
    ),
    family(
        "timestamp_s",
        {DUCKDB: "TIMESTAMP_S"},
        {"epoch": Moment(Day(1970, 1, 1), 0), "last": Moment(Day(9999, 12, 31), _DAY - _SECOND), "first": Moment(Day(1, 1, 1), 0)},
        _nanoseconds,
        {"year_290000": (Moment(Day(290_000, 6, 15), _NOON), {DUCKDB: "'290000-06-15 12:00:00'"})},
    ),
    family("interval", {POSTGRES: "interval", DUCKDB: "INTERVAL"}, _SPANS, _write_span),
)  # fmt: skip
