"""Reads a table again and again while a crowd writes it, and compares what came with what was committed; some reads are killed."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict
from typing import Any

import yaml

from tests.faults.campaign.modes import Finding, count
from tests.faults.campaign.trial import RERUNS, Ground, Judgement, Verdict
from tests.faults.campaign.writers import Crowd, Tally
from tests.kit.mariadb import MariaDBDatabase, MariaDBServer
from tests.kit.postgres import PostgresDatabase, PostgresServer
from tests.kit.process import ROOT

MARGIN = 1.5
"""Seconds that a read may stay behind the server's clock."""
_TABLES = {
    "postgres": "CREATE TABLE events (id bigserial PRIMARY KEY, writer int, number int, changed timestamptz)",
    "mysql": "CREATE TABLE events (id bigint AUTO_INCREMENT PRIMARY KEY, writer int, number int, changed datetime(6))",
}
_COLUMNS = "id, writer, number"
_KILLED = 1 / 10
_PAUSE = 0.5


class Incremental:
    """A table that a crowd writes, and a workflow that appends what is new in it to a SQLite file.

    Args:
        ground: Lends its process that forks, and its folder.
        server: Holds the table.
    """

    def __init__(self, ground: Ground, server: PostgresServer | MariaDBServer) -> None:
        self.kind = "postgres" if isinstance(server, PostgresServer) else "mysql"
        self._ground, self._database = ground, server.new_database()
        self._database.execute(_TABLES[self.kind])
        self._home = ground.home(f"incremental_{self.kind}")
        (self._home / "load.yaml").write_text(self._workflow(), encoding="utf-8")
        self.notes: dict[str, int] = {}

    def run(self, commits: int, seed: int, *, writers: int = 24, longest: float = 5.0) -> Finding:
        """Lets a crowd write, reads meanwhile, and once more when it has ended.

        Args:
            commits: Of the crowd.
            seed: Says how slow each transaction is, and which reads are killed.
            writers: Connections that write.
            longest: Seconds that a transaction stays open, at most.
        """
        luck = random.Random(f"incremental {self.kind} {seed}")
        crowd = Crowd(self.kind, _login(self._database), commits, writers, longest, seed)
        command = [sys.executable, "-m", "tests.faults.campaign.writers"]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(asdict(crowd)))
            process.stdin.close()
            while process.poll() is None:
                self._read(luck)
                time.sleep(_PAUSE)
            tally = Tally(**json.loads(process.stdout.read()))
        time.sleep(MARGIN)
        judged = self._finish(tally)
        self.notes |= {
            "rows": tally.rows,
            "rolled back": tally.rolled_back,
            "ms of the slowest": int(1e3 * tally.longest),
        }
        return Finding("incremental", self.kind, str(seed), tally.commits, judged, self.notes)

    def _read(self, luck: random.Random) -> None:
        child = self._ground.warm.start(self._home, f"read-{time.monotonic_ns()}")
        if luck.random() < _KILLED and not child.spent(luck.uniform(0.1, 0.5)):
            child.signal(signal.SIGKILL)
        ended = child.wait()
        count(self.notes, "reads killed" if ended is None else f"reads {ended.error or 'finished'}")

    def _finish(self, tally: Tally) -> Judgement:
        for _ in range(RERUNS):
            ended = self._ground.warm.start(self._home, f"read-{time.monotonic_ns()}").wait()
            if ended is not None and not ended.error:
                return self._judge(tally)
        return Judgement(
            Verdict.STUCK, why="killed by somebody else" if ended is None else f"{ended.error}: {ended.said}"
        )

    def _judge(self, tally: Tally) -> Judgement:
        want = Counter(tuple(map(int, row)) for row in self._database.rows(f"SELECT {_COLUMNS} FROM events"))
        assert want.total() == tally.rows, "the table does not hold what its writers say"
        held = sqlite3.connect(self._home / "out.db")
        have = Counter(held.execute(f"SELECT {_COLUMNS} FROM rows").fetchall())
        held.close()
        lost, more = want - have, have - want
        doubled = sum(times for row, times in more.items() if row in want)
        wrong = more.total() - doubled
        verdict = Verdict.CORRUPT if wrong else Verdict.LOST if lost else Verdict.DOUBLED if doubled else Verdict.WHOLE
        why = f"for instance {min(lost or more)}" if lost or more else ""
        return Judgement(verdict, lost.total(), doubled, wrong, why)

    def _workflow(self) -> str:
        held = self._database
        login: dict[str, Any] = {"host": held.host, "port": held.port, "database": held.database}
        login |= {"username": held.user, "password": held.password}
        reading = {"table": "events", "incremental_column": "changed", "primary_key": "id"}
        path = str(self._home / "out.db")
        workflow = {
            "name": f"incremental_{self.kind}",
            "checkpoint": {"rows": 1_000},
            "batch": {"rows": 500},
            "source": {"type": self.kind, "config": {**login, **reading}},
            "destination": {"type": "sqlite", "config": {"path": path, "table": "rows", "write_mode": "append"}},
        }
        return yaml.safe_dump({"workflow": workflow}, sort_keys=False)


def _login(held: PostgresDatabase | MariaDBDatabase) -> dict[str, Any]:
    where = {"host": held.host, "port": held.port, "user": held.user, "password": held.password}
    if isinstance(held, PostgresDatabase):
        return {**where, "dbname": held.database, "sslmode": "require"}
    return {**where, "database": held.database, "ssl": {"ca": str(held.ca_file)}}
