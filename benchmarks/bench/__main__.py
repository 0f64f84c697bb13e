"""`make bench`: starts a PostgreSQL, makes the data, runs every contestant of every workload in turns, and writes what they took.

Each round runs all contestants of a workload one after the other, so that what else the machine does meets all of them. What a contestant
wrote is compared with the source after each run; one that is wrong once counts as wrong. Figures are medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import psycopg

from benchmarks.bench.data import make_table
from benchmarks.bench.measure import Taken, measured
from benchmarks.bench.page import page
from benchmarks.bench.workloads import Contestant, Place, Workload, workloads
from tests.kit.postgres import PostgresServer, start_postgres

ROOT = Path(__file__).parents[2]
SETTINGS = (
    "shared_buffers=2GB",
    "max_wal_size=8GB",
    "autovacuum=off",
    "wal_level=replica",
    "max_replication_slots=0",
)


def main() -> int:
    """Runs what the command line asks for."""
    asked = _arguments()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as named:
        folder = Path(named)
        folder.chmod(0o755)
        server = start_postgres(durable=True, more=SETTINGS)
        try:
            place = _prepared(server, folder, asked.rows)
            known = workloads(place)
            chosen = [known[each] for each in asked.only or known]
            results = {each.name: _rounds(each, place, server, asked.rounds) for each in chosen}
        finally:
            server.process.stop()
    facts = {"rows": asked.rows, "rounds": asked.rounds, "machine": _machine(), "postgres": server.version}
    asked.json.write_text(json.dumps({"facts": facts, "results": _plain(results)}, indent=1), encoding="utf-8")
    text = page(facts, chosen, results)
    print(text)
    if asked.page is not None:
        asked.page.write_text(text, encoding="utf-8")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000, help="rows of the big tables")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each contestant")
    parser.add_argument("--only", nargs="*", default=(), help="names of workloads")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where every figure goes")
    parser.add_argument("--page", type=Path, help="where the page goes")
    return parser.parse_args()


def _prepared(server: PostgresServer, folder: Path, rows: int) -> Place:
    database = server.default_database
    address = (
        f"host={database.host} port={database.port} user={database.user} password={database.password} "
        f"dbname={database.database} sslmode=disable"
    )
    print(f"making {rows:,} rows …", file=sys.stderr)
    for table in ("big", "other"):
        make_table(address, table, rows)
    rivals = ROOT / ".bench-venv" / "bin"
    programs = next(
        iter(sorted(Path("/usr/lib/postgresql").glob("*/bin/psql"))), Path(shutil.which("psql") or "psql")
    ).parent
    place = Place(address, folder, rows, programs, ROOT / ".venv" / "bin", rivals if rivals.exists() else None)
    _export(place)
    return place


def _export(place: Place) -> None:
    """Writes the big table as CSV, Parquet and COPY's binary form."""
    import pyarrow as pa
    import pyarrow.csv as pc_csv
    import pyarrow.parquet as pq

    for name, options in (("big.csv", "format csv, header"), ("big.bin", "format binary")):
        copy = f"\\copy big to {place.folder / name} ({options})"
        taken = measured((str(place.programs / "psql"), "-q", place.address, "-c", copy), {}, ())
        if taken.failed:
            raise RuntimeError(taken.failed)
    converted = pc_csv.ConvertOptions(
        column_types={"amount": pa.decimal128(12, 2), "attrs": pa.string()},
        true_values=["t"],
        false_values=["f"],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    parsed = pc_csv.open_csv(
        place.folder / "big.csv", parse_options=pc_csv.ParseOptions(newlines_in_values=True), convert_options=converted
    )
    with pq.ParquetWriter(place.folder / "big.parquet", parsed.schema, compression="zstd") as writer:
        for batch in parsed:
            writer.write_batch(batch, row_group_size=131_072)


def _rounds(workload: Workload, place: Place, server: PostgresServer, rounds: int) -> dict[str, list[Taken]]:
    found: dict[str, list[Taken]] = {name: [] for name in workload.contestants}
    for number in range(1, rounds + 1):
        for name, contestant in workload.contestants.items():
            if found[name] and found[name][-1].failed:
                continue  # once is enough
            taken = _run(workload, contestant, place, server)
            found[name].append(taken)
            said = (
                taken.failed
                or f"{taken.wall:.1f} s, {taken.cpu:.1f} + {taken.server_cpu:.1f} s of CPU, {taken.peak_mib} MiB"
            )
            print(f"{workload.name} {number}/{rounds} {name}: {said}", file=sys.stderr)
    return found


def _run(workload: Workload, contestant: Contestant, place: Place, server: PostgresServer) -> Taken:
    with psycopg.connect(place.address, autocommit=True) as opened:
        for statement in filter(None, map(str.strip, contestant.before.split(";"))):
            opened.execute(statement.encode())
        opened.execute("CHECKPOINT")
    shutil.rmtree(place.folder / "home", ignore_errors=True)
    taken = measured(contestant.command, contestant.environment, [server.process.pid])
    if taken.failed or contestant.tells is None:
        return taken
    try:
        told = contestant.tells()
    except Exception as error:  # noqa: BLE001 - whatever a tool left behind that cannot be read
        return replace(taken, failed=f"its result cannot be read: {error}")
    return taken if told == workload.expected else replace(taken, failed=f"wrong: {told}, not {workload.expected}")


def _machine() -> str:
    model = next(
        (
            line.split(": ")[1]
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "",
    )
    memory = int(Path("/proc/meminfo").read_text().split()[1]) >> 20
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{len(os.sched_getaffinity(0))} x {model}, {memory} GiB, {system}"


def _plain(results: Mapping[str, Mapping[str, Sequence[Taken]]]) -> dict[str, dict[str, list[dict[str, object]]]]:
    return {
        workload: {name: [asdict(each) for each in taken] for name, taken in runs.items()}
        for workload, runs in results.items()
    }


if __name__ == "__main__":
    sys.exit(main())
