"""What is measured: for each workload its limit, what each contestant runs, and how its result is told; starts nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench.data import COLUMNS, sums_of_parquet, sums_of_table

LIMIT = "limit"
OURS, ALONE = "headrace", "headrace, engine alone"


@dataclass(frozen=True)
class Place:
    """Where the benchmarks run.

    Attributes:
        address: PostgreSQL's, as libpq reads it.
        folder: For files.
        rows: How many rows the big tables have.
        programs: Folder of psql.
        project: The project's own environment's programs.
        rivals: The rivals' environment's programs; None where they are not installed.
    """

    address: str
    folder: Path
    rows: int
    programs: Path
    project: Path
    rivals: Path | None


@dataclass(frozen=True)
class Contestant:
    """Who takes part.

    Attributes:
        command: What it runs.
        environment: Further variables.
        tells: Returns what tells its result; None for a limit that keeps none.
        before: SQL that runs before each of its runs, and is not measured.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]
    tells: Callable[[], tuple[str, ...]] | None = None
    before: str = ""


@dataclass(frozen=True)
class Workload:
    """One line of the table.

    Attributes:
        name: For the command line.
        title: For people.
        goal: The ratio of wall times to reach.
        expected: What tells the right result.
        contestants: Name -> who; `LIMIT` is among them.
    """

    name: str
    title: str
    goal: float
    expected: tuple[str, ...]
    contestants: Mapping[str, Contestant]


def workloads(place: Place) -> dict[str, Workload]:
    """Returns all workloads of a place whose tables have been made."""
    made = (_to_parquet(place), _append(place), _upsert(place), _from_csv(place), _from_parquet(place), _join(place))
    return {each.name: each for each in made}


def _psql(place: Place, *commands: str) -> tuple[str, ...]:
    said = (part for each in commands for part in ("-c", each))
    return (str(place.programs / "psql"), "-q", "-v", "ON_ERROR_STOP=1", place.address, *said)


def _shell(text: str) -> tuple[str, ...]:
    return ("bash", "-o", "pipefail", "-c", text)


def _ours(
    place: Place, name: str, text: str, tells: Callable[[], tuple[str, ...]], before: str
) -> dict[str, Contestant]:
    """Returns our own two: through Dagster as anybody runs it, and the same plan by the engine alone."""
    file = place.folder / f"{name}.yaml"
    file.write_text(text, encoding="utf-8")
    environment = {"BENCH_PASSWORD": _part(place, "password"), "HEADRACE_HOME": str(place.folder / "home")}
    python = str(place.project / "python")
    return {
        OURS: Contestant((str(place.project / "headrace"), "run", "--json", str(file)), environment, tells, before),
        ALONE: Contestant((python, "-m", "benchmarks.bench.alone", str(file)), environment, tells, before),
    }


def _part(place: Place, name: str) -> str:
    parts = dict(each.split("=", 1) for each in place.address.split())
    return parts[name]


def _postgres(place: Place, table: str, more: str = "") -> str:
    login = f"host: {_part(place, 'host')}, port: {_part(place, 'port')}, database: {_part(place, 'dbname')}, "
    login += f'username: {_part(place, "user")}, password: "${{BENCH_PASSWORD}}", tls: disable'
    return f"{{type: postgres, config: {{{login}, table: {table}{more}}}}}"


def _file(place: Place, path: str, form: str, more: str = "") -> str:
    return f"{{type: file, config: {{root: {place.folder}, path: {path}, format: {form}{more}}}}}"


def _chain(name: str, source: str, destination: str) -> str:
    return f"workflow:\n  name: {name}\n  source: {source}\n  destination: {destination}\n"


def _url(place: Place, scheme: str = "postgresql") -> str:
    host, port, user, database = (_part(place, each) for each in ("host", "port", "user", "dbname"))
    return f"{scheme}://{user}:{_part(place, 'password')}@{host}:{port}/{database}?sslmode=disable"


def _ingestr(place: Place, source: tuple[str, str], target: tuple[str, str], *more: str) -> tuple[str, ...]:
    program = str((place.rivals or Path()) / "ingestr")
    ends = ("--source-uri", source[0], "--source-table", source[1], "--dest-uri", target[0], "--dest-table", target[1])
    return (program, "ingest", *ends, "--yes", *more)


def _rivals(place: Place, found: Mapping[str, Contestant]) -> Mapping[str, Contestant]:
    return found if place.rivals is not None else {}


def _script(place: Place, name: str, *arguments: str) -> tuple[str, ...]:
    return (
        str((place.rivals or Path()) / "python"),
        str(Path(__file__).with_name("rivals") / f"{name}.py"),
        *arguments,
    )


def _to_parquet(place: Place) -> Workload:
    tables = place.folder / "to_parquet"

    def tells(folder: str) -> Callable[[], tuple[str, ...]]:
        return lambda: sums_of_parquet(tables / folder / "**" / "*.parquet")

    text = _chain(
        "to_parquet",
        _postgres(place, "public.big"),
        _file(place, "to_parquet/ours", "parquet", ", write_mode: overwrite"),
    )
    duck = Contestant(
        _script(place, "duck", place.address, "big", str(tables / "duck" / "all.parquet")), {}, tells("duck")
    )
    go = Contestant(
        _ingestr(place, (_url(place), "public.big"), (f"parquet://{tables}/ingestr/all.parquet", "big")),
        {},
        tells("ingestr"),
    )
    for name in ("duck", "ingestr"):
        (tables / name).mkdir(parents=True, exist_ok=True)
    return Workload(
        "to_parquet",
        "PostgreSQL -> Parquet (zstd)",
        1.12,
        sums_of_table(place.address, "big"),
        {
            LIMIT: Contestant(_psql(place, "\\copy big to /dev/null (format binary)"), {}),
            **_ours(place, "to_parquet", text, tells("ours"), ""),
            **_rivals(place, {"DuckDB 1.5.5": duck, "ingestr 1.1.19": go}),
        },
    )


def _emptied(table: str, key: str = "") -> str:
    return f"DROP TABLE IF EXISTS {table}; CREATE TABLE {table} (LIKE big INCLUDING ALL); {key}"


def _relay(place: Place, sql: str, table: str) -> tuple[str, ...]:
    out, into = (f"{place.programs / 'psql'} -q '{place.address}' -c" for _ in range(2))
    return _shell(
        f'{out} "\\copy ({sql}) to stdout (format binary)" | {into} "\\copy {table} from stdin (format binary)"'
    )


def _append(place: Place) -> Workload:
    def tells(table: str) -> Callable[[], tuple[str, ...]]:
        return lambda: sums_of_table(place.address, table)

    text = _chain("append", _postgres(place, "public.big"), _postgres(place, "public.ours_append"))
    target = (_url(place), "public.ingestr_append")
    return Workload(
        "append",
        "PostgreSQL -> PostgreSQL, append",
        1.05,
        sums_of_table(place.address, "big"),
        {
            LIMIT: Contestant(_relay(place, "select * from big", "relayed"), {}, tells("relayed"), _emptied("relayed")),
            **_ours(place, "append", text, tells("ours_append"), _emptied("ours_append")),
            **_rivals(
                place,
                {
                    "ingestr 1.1.19": Contestant(
                        _ingestr(place, (_url(place), "public.big"), target, "--incremental-strategy", "append"),
                        {},
                        tells("ingestr_append"),
                        _emptied("ingestr_append"),
                    )
                },
            ),
        },
    )


def _upsert(place: Place) -> Workload:
    def tells(table: str) -> Callable[[], tuple[str, ...]]:
        return lambda: sums_of_table(place.address, table)

    def stale(table: str) -> str:
        return f"{_emptied(table)} INSERT INTO {table} SELECT * FROM big WHERE id % 2 = 0; UPDATE {table} SET qty = -1"

    names = COLUMNS.split(", ")
    updates = ", ".join(f"{each} = excluded.{each}" for each in names[1:])
    merge = f"insert into staged_copy select * from staged on conflict (id) do update set {updates}"
    out = f"{place.programs / 'psql'} -q '{place.address}' -c"
    limit = _shell(
        f'{out} "\\copy big to stdout (format binary)" | {place.programs / "psql"} -q "{place.address}" '
        f'-c "create temp table staged (like big)" -c "\\copy staged from stdin (format binary)" -c "{merge}"'
    )
    text = _chain(
        "upsert",
        _postgres(place, "public.big"),
        _postgres(place, "public.ours_upsert", ", write_mode: upsert, primary_key: [id]"),
    )
    go = _ingestr(
        place,
        (_url(place), "public.big"),
        (_url(place), "public.ingestr_upsert"),
        "--incremental-strategy",
        "merge",
        "--primary-key",
        "id",
    )
    return Workload(
        "upsert",
        "PostgreSQL -> PostgreSQL, upsert on the key",
        1.15,
        sums_of_table(place.address, "big"),
        {
            LIMIT: Contestant(limit, {}, tells("staged_copy"), stale("staged_copy")),
            **_ours(place, "upsert", text, tells("ours_upsert"), stale("ours_upsert")),
            **_rivals(place, {"ingestr 1.1.19": Contestant(go, {}, tells("ingestr_upsert"), stale("ingestr_upsert"))}),
        },
    )


def _from_csv(place: Place) -> Workload:
    def tells(table: str) -> Callable[[], tuple[str, ...]]:
        return lambda: sums_of_table(place.address, table)

    text = _chain("from_csv", _file(place, "big.csv", "csv"), _postgres(place, "public.ours_csv"))
    limit = _psql(place, f"\\copy csv_limit from {place.folder}/big.csv (format csv, header)")
    go = _ingestr(place, (f"csv://{place.folder}/big.csv", "big"), (_url(place), "public.ingestr_csv"))
    bare = "DROP TABLE IF EXISTS {0}; CREATE TABLE {0} (LIKE big)"
    return Workload(
        "from_csv",
        "CSV -> PostgreSQL",
        1.0,
        sums_of_table(place.address, "big"),
        {
            LIMIT: Contestant(limit, {}, tells("csv_limit"), bare.format("csv_limit")),
            **_ours(place, "from_csv", text, tells("ours_csv"), "DROP TABLE IF EXISTS ours_csv"),
            **_rivals(
                place, {"ingestr 1.1.19": Contestant(go, {}, tells("ingestr_csv"), "DROP TABLE IF EXISTS ingestr_csv")}
            ),
        },
    )


def _from_parquet(place: Place) -> Workload:
    def tells(table: str) -> Callable[[], tuple[str, ...]]:
        return lambda: sums_of_table(place.address, table)

    bare = "DROP TABLE IF EXISTS {0}; CREATE TABLE {0} (LIKE big)"
    text = _chain("from_parquet", _file(place, "big.parquet", "parquet"), _postgres(place, "public.ours_parquet"))
    limit = _psql(place, f"\\copy parquet_limit from {place.folder}/big.bin (format binary)")
    return Workload(
        "from_parquet",
        "Parquet -> PostgreSQL",
        1.3,
        sums_of_table(place.address, "big"),
        {
            LIMIT: Contestant(limit, {}, tells("parquet_limit"), bare.format("parquet_limit")),
            **_ours(place, "from_parquet", text, tells("ours_parquet"), bare.format("ours_parquet")),
        },
    )


def _join(place: Place) -> Workload:
    joined = place.folder / "join"
    limit = "\\copy (select b.*, o.name as other from big b join other o using (id)) to /dev/null (format binary)"
    text = (
        f"workflow:\n  name: join\n  sources:\n    big: {_postgres(place, 'public.big')}\n    other: {_postgres(place, 'public.other')}\n"
        "  transformations:\n    joined:\n      inputs: [big, other]\n      type: join\n"
        "      config: {join_key: id, join_type: inner, on_collision: suffix}\n"
        f"  destinations:\n    file:\n      inputs: [joined]\n      type: file\n"
        f"      config: {{root: {place.folder}, path: join/ours, format: parquet, write_mode: overwrite}}\n"
    )
    return Workload(
        "join",
        "join of two tables -> Parquet",
        0.85,
        sums_of_table(place.address, "big"),
        {
            LIMIT: Contestant(_psql(place, limit), {}),
            **_ours(place, "join", text, lambda: sums_of_parquet(joined / "ours" / "**" / "*.parquet"), ""),
        },
    )
