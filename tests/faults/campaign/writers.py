"""Programs that write a table at once, some of them slowly, while somebody else reads it; reads nothing itself.

`python -m tests.faults.campaign.writers` takes a `Crowd` as JSON, and answers with a `Tally` once all of them have ended.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import psycopg
import pymysql

CLOCKS = {"postgres": ("clock_timestamp()", "now()"), "mysql": ("SYSDATE(6)", "NOW(6)")}
"""What writers of even and of odd numbers take for the time of a change: when it is made, or when its transaction began."""


@dataclass(frozen=True)
class Crowd:
    """Who writes, and how much.

    Attributes:
        kind: Of the server.
        login: What its driver needs to connect.
        commits: Transactions that are committed, over all writers; one in thirty besides is rolled back.
        writers: Connections.
        longest: Seconds that a transaction stays open, at most.
        seed: Says how long each does.
    """

    kind: str
    login: dict[str, Any]
    commits: int
    writers: int = 24
    longest: float = 5.0
    seed: int = 1

    def share(self, writer: int) -> int:
        """Commits of one writer."""
        return self.commits // self.writers + (writer < self.commits % self.writers)


@dataclass(frozen=True)
class Tally:
    """What was written.

    Attributes:
        commits: Transactions that were committed.
        rolled_back: Those that were not.
        rows: Rows of the committed ones.
        longest: Seconds that the slowest one was open.
    """

    commits: int
    rolled_back: int
    rows: int
    longest: float


def pause(luck: random.Random, longest: float) -> float:
    """Seconds that a transaction stays open after its last row: most commit at once, one in 200 takes its time."""
    chance = luck.random()
    if chance < 0.97:
        return 0.0
    return luck.uniform(0, longest / 10) if chance < 0.995 else luck.uniform(longest / 5, longest)


def _connect(crowd: Crowd) -> Any:
    if crowd.kind == "postgres":
        return psycopg.connect(**crowd.login, autocommit=True)
    return pymysql.connect(**crowd.login, autocommit=True)


def _write(crowd: Crowd, writer: int) -> Tally:
    luck = random.Random(f"{crowd.seed} {writer}")
    statement = f"INSERT INTO events (writer, number, changed) VALUES (%s, %s, {CLOCKS[crowd.kind][writer % 2]})"
    commits, rolled_back, rows, number, slowest = 0, 0, 0, 0, 0.0
    connection = _connect(crowd)
    with connection.cursor() as cursor:
        while commits < crowd.share(writer):
            seconds, keep = pause(luck, crowd.longest), luck.random() >= 1 / 30
            count, began = luck.choice((1, 1, 1, 3)), time.monotonic()
            cursor.execute("BEGIN")
            for _ in range(count):
                number += 1
                cursor.execute(statement, (writer, number))
            if seconds:
                time.sleep(seconds)
            cursor.execute("COMMIT" if keep else "ROLLBACK")
            slowest = max(slowest, time.monotonic() - began)
            commits, rolled_back, rows = commits + keep, rolled_back + (not keep), rows + keep * count
    connection.close()
    return Tally(commits, rolled_back, rows, slowest)


def write(crowd: Crowd) -> Tally:
    """Lets them all write, and adds up what they did."""
    with ThreadPoolExecutor(crowd.writers) as pool:
        done: Sequence[Tally] = list(pool.map(lambda each: _write(crowd, each), range(crowd.writers)))
    commits, rolled_back, rows = (
        sum(getattr(each, name) for each in done) for name in ("commits", "rolled_back", "rows")
    )
    return Tally(commits, rolled_back, rows, round(max(each.longest for each in done), 2))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(write(Crowd(**json.load(sys.stdin))))))
