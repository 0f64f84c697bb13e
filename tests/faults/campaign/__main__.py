"""`make faults`: disturbs loads into every destination, prints what is not whole with what replays it, and a table; mends nothing.

python -m tests.faults.campaign --failpoints --kills 300 --races 200 --cuts 500 --crashes 100 [--targets postgres,mysql] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from dsl.contracts import failpoints
from tests.faults.campaign import modes
from tests.faults.campaign.field import NAMES, Field, crashing
from tests.faults.campaign.incremental import Incremental
from tests.faults.campaign.load import Rows
from tests.faults.campaign.modes import Course, Finding, Place
from tests.faults.campaign.trial import Judgement, Verdict

SQL_SERVERS = ("postgres", "mysql")


class Campaign:
    """All the ways over all the targets.

    Args:
        given: What the command was told.
        field: The servers.
    """

    def __init__(self, given: argparse.Namespace, field: Field) -> None:
        self._given, self._field = given, field
        self.findings: list[Finding] = []
        self.seconds: Counter[str] = Counter()

    def run(self) -> None:
        """Runs what was asked for."""
        for name in self._given.targets:
            course = Course(self._field.ground, self._field.target(name))
            for way, found in (
                ("failpoints", self._failpoints(course)),
                ("kills", self._kills(course)),
                ("races", self._races(course)),
                ("cuts", self._cuts(name)),
                ("crashes", self._crashes(name)),
                ("incremental", self._incremental(name)),
            ):
                began = time.monotonic()
                for each in found:
                    self._note(each)
                self.seconds[f"{way} {name}"] = round(time.monotonic() - began)

    def _failpoints(self, course: Course) -> Iterator[Finding]:
        if not self._given.failpoints:
            return
        visits = {mode: course.known_visits(mode) for mode in course.target.modes}
        reached = {name for each in visits.values() for name in each}
        only = [Place.parse(self._given.only)] if self._given.only else None
        for place in only or modes.places(course, visits, once=self._given.once):
            found = modes.strike(course, place, visits[place.mode])
            if "reached" in found.notes:
                reached.add(place.name)
            yield found
        if only is None:
            for name in sorted(modes.unreached(course.target, set(failpoints.ALL), reached)):
                never = Judgement(Verdict.UNREACHED, why=f"no load reaches {name}")
                yield Finding("failpoints", course.target.name, name, 0, never)

    def _kills(self, course: Course) -> Iterator[Finding]:
        kills, most = 0, self._given.kills.get(course.target.name, self._given.kills[""])
        for case in self._cases(10**6):
            if kills >= most:
                return
            found = modes.kill(course, case)
            kills += found.kills
            yield found

    def _races(self, course: Course) -> Iterator[Finding]:
        for case in self._cases(self._given.races):
            yield modes.race(course, case)

    def _cuts(self, name: str) -> Iterator[Finding]:
        if name in SQL_SERVERS and self._given.cuts:
            with self._field.cutting(name) as cutting:
                for case in self._cases(self._given.cuts):
                    yield cutting.cut(case)

    def _crashes(self, name: str) -> Iterator[Finding]:
        if name in SQL_SERVERS and self._given.crashes:
            with crashing(name, self._field.ground) as held:
                for case in self._cases(self._given.crashes):
                    yield held.crash(case)

    def _incremental(self, name: str) -> Iterator[Finding]:
        if name in SQL_SERVERS and self._given.commits:
            server = self._field.postgres if name == "postgres" else self._field.mariadb
            commits = self._given.commits if name == "postgres" else self._given.commits // 10
            yield Incremental(self._field.ground, server).run(commits, self._given.seed)

    def _cases(self, count: int) -> Sequence[int]:
        if self._given.only:
            return [int(self._given.only)] if count else []
        return range(self._given.first, self._given.first + count)

    def _note(self, found: Finding) -> None:
        self.findings.append(found)
        if found.judgement.verdict is not Verdict.WHOLE:
            _say(f"{found.target}: {found.judgement.verdict}: {found.judgement.why}")
            way = {"failpoints": "--failpoints", "incremental": f"--commits {self._given.commits}"}
            asked = way.get(found.way, f"--{found.way} 1")
            whole = found.way == "incremental" or found.judgement.verdict is Verdict.UNREACHED
            only = "" if whole else f" --only {found.case}"
            _say(
                f"    replay: {sys.executable} -m tests.faults.campaign --targets {found.target} {asked}{only}"
                f" --seed {self._given.seed} --rows {self._given.rows}"
            )
        elif len(self.findings) % 10 == 0:
            _say(f"    {len(self.findings)} loads; {found.target} {found.way} {found.case} is whole")

    def table(self) -> str:
        """Returns the findings, added up."""
        lines = [
            "| destination | way | loads | disturbances | whole | lost | doubled | corrupt | stuck | other | seconds |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for way, target in dict.fromkeys((each.way, each.target) for each in self.findings):
            mine = [each for each in self.findings if (each.way, each.target) == (way, target)]
            by = Counter(str(each.judgement.verdict) for each in mine)
            known = [by.pop(each, 0) for each in ("whole", "lost", "doubled", "corrupt", "stuck")]
            counts = [len(mine), sum(each.kills for each in mine), *known, by.total()]
            shown = " | ".join(map(str, counts))
            lines.append(f"| {target} | {way} | {shown} | {self.seconds[f'{way} {target}']} |")
        return "\n".join(lines)

    def notes(self) -> str:
        """Returns what happened besides, by way and target."""
        added: dict[tuple[str, str], Counter[str]] = {}
        for each in self.findings:
            added.setdefault((each.way, each.target), Counter()).update(each.notes)
        return "\n".join(f"{target} {way}: {dict(sorted(said.items()))}" for (way, target), said in added.items())

    def document(self) -> str:
        """Returns everything as JSON."""
        given = {key: value for key, value in vars(self._given).items() if key != "json"}
        found = [asdict(each) for each in self.findings]
        return json.dumps({"at": datetime.now(UTC).isoformat(), "given": given, "findings": found}, indent=1)

    @property
    def whole(self) -> bool:
        """Whether nothing was found wrong."""
        return all(each.judgement.verdict is Verdict.WHOLE for each in self.findings)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _amounts(text: str) -> dict[str, int]:
    """Reads `300,postgres=1000`; what stands without a name is for all others."""
    pairs = (each.rpartition("=") for each in text.split(","))
    return {"": 0, **{name: int(amount) for name, _, amount in pairs}}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.campaign", description=__doc__)
    parser.add_argument("--targets", type=lambda text: text.split(","), default=list(NAMES))
    parser.add_argument("--failpoints", action="store_true", help="every failpoint at its first, middle and last visit")
    parser.add_argument("--once", action="store_true", help="every failpoint at its middle visit only")
    kills = "SIGKILLs at random times, for each target; 300,postgres=1000 says otherwise for one"
    parser.add_argument("--kills", type=_amounts, default={"": 0}, help=kills)
    parser.add_argument("--races", type=int, default=0, help="races of two runs, for each target; every other a zombie")
    parser.add_argument("--cuts", type=int, default=0, help="cut connections, for each SQL server")
    parser.add_argument("--crashes", type=int, default=0, help="SIGKILLs of SQL servers, as destination and as source")
    parser.add_argument(
        "--commits", type=int, default=0, help="commits at once that PostgreSQL is read beside; a tenth for MariaDB"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the rows")
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--first", type=int, default=1, help="number of the first random case")
    parser.add_argument("--only", default="", help="one case, as a failure names it")
    parser.add_argument("--json", type=Path, help="where to write every finding")
    return parser.parse_args()


def main() -> int:
    """Runs a campaign; 1 if anything is not whole."""
    given = _arguments()
    unknown = sorted(set(given.targets) - set(NAMES))
    if unknown:
        _say(f"unknown targets: {', '.join(unknown)}; there are: {', '.join(NAMES)}")
        return 2
    # Whoever ends it early, also a background job for which a shell ignores the interrupt, still gets its table.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.default_int_handler)
    _say(f"rows of seed {given.seed}; cases from {given.first}")
    with ExitStack() as stack:
        campaign = Campaign(given, stack.enter_context(Field.opened(Rows(given.seed, given.rows))))
        with suppress(KeyboardInterrupt):  # what was found so far is worth its table
            campaign.run()
    _say(f"\n{campaign.table()}\n\n{campaign.notes()}")
    if given.json:
        given.json.write_text(campaign.document(), encoding="utf-8")
    return 0 if campaign.whole else 1


if __name__ == "__main__":
    sys.exit(main())
