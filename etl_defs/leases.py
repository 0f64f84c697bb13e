"""The lease of a run: a row that its worker renews, and that runs out when the worker is gone; judges no run."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dagster import DagsterInstance

from dsl.contracts.errors import HeadraceError
from etl_defs.logs import LOGGER
from resources.stores.key_values import KeyValues

PREFIX = "headrace/lease/v1/"
"""Before the run's id, in the key-value table of Dagster's run storage."""
VERSION = 1
LASTS = timedelta(seconds=15)
EVERY = 3.0
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def _boot_id() -> str:
    return _BOOT.read_text(encoding="ascii").strip() if _BOOT.exists() else ""


@dataclass(frozen=True)
class Lease:
    """Who works on a run, and until when others must believe it.

    Attributes:
        run_id: The run.
        workflow: The workflow's Dagster name.
        expires: When it runs out, by the clock of run storage.
        host: Where the worker is.
        pid: Its process there.
        boot_id: Which start of that host it belongs to.
        holder: Differs between any two workers.
    """

    run_id: str
    workflow: str
    expires: datetime
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    boot_id: str = field(default_factory=_boot_id)
    holder: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def key(self) -> str:
        """Where it stands."""
        return PREFIX + self.run_id

    def encoded(self) -> str:
        """Returns it as text."""
        facts = {**self.__dict__, "v": VERSION, "expires": self.expires.isoformat(timespec="milliseconds")}
        return json.dumps(facts, sort_keys=True)


def decoded(text: str) -> Lease | None:
    """Reads what `Lease.encoded` gave; None for one that another version of Headrace wrote."""
    facts = json.loads(text)
    if facts.pop("v", None) != VERSION:
        return None
    return Lease(**{**facts, "expires": datetime.fromisoformat(facts["expires"])})


class Holder:
    """Takes a run's lease, renews it and gives it back.

    Args:
        pairs: Where leases are.
        workflow: The workflow's Dagster name.
        run_id: The run.
    """

    def __init__(self, pairs: KeyValues, workflow: str, run_id: str) -> None:
        self._pairs = pairs
        self._lease = Lease(run_id, workflow, datetime.now(UTC))
        self._taken = False
        self._end = threading.Event()

    def renew(self) -> bool:
        """Takes the lease, or makes it last longer; tells whether the run still has it.

        Raises:
            UnavailableError: Run storage cannot be reached.
        """
        held, now = self._pairs.read(self._lease.key)
        lease = replace(self._lease, expires=now + LASTS)
        if not self._taken:
            # Nobody else works on a run that starts: what stands there is left of a worker before it.
            self._pairs.put(lease.key, lease.encoded())
            self._taken = True
            return True
        # An answer that was lost is no loss of the lease: what stands there is looked at, not what was remembered.
        return self._is_mine(held) and self._pairs.replace(lease.key, str(held), lease.encoded())

    def run(self) -> None:
        """Renews until it is ended, or until somebody took the run for dead."""
        log = logging.getLogger(LOGGER)
        while not self._end.wait(EVERY):
            try:
                if not self.renew():
                    log.warning(
                        "run %s was taken for dead, for its lease was not renewed in time; whatever runs in its place "
                        "fences it at its next commit",
                        self._lease.run_id,
                    )
                    return
            except HeadraceError as error:
                log.warning("the lease of run %s could not be renewed: %s", self._lease.run_id, error)
            except Exception:  # whatever the storage's driver raises, the next moment tries again
                log.exception("the lease of run %s could not be renewed", self._lease.run_id)

    def end(self) -> None:
        """Ends the thread."""
        self._end.set()

    def give_back(self) -> None:
        """Forgets the lease, unless it is somebody else's by now."""
        if self._is_mine(self._pairs.get(self._lease.key)):
            self._pairs.delete(self._lease.key)

    def _is_mine(self, held: str | None) -> bool:
        known = None if held is None else decoded(held)
        return known is not None and known.holder == self._lease.holder


@contextmanager
def leased(instance: DagsterInstance | None, workflow: str, run_id: str) -> Iterator[None]:
    """Holds the lease of a run while the block goes on; a run that nobody can look up has none."""
    if instance is None or instance.is_ephemeral or not run_id:
        yield
        return
    holder = Holder(KeyValues(instance), workflow, run_id)
    with suppress(HeadraceError):  # the thread tries again
        holder.renew()
    thread = threading.Thread(target=holder.run, name="headrace-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        holder.end()
        thread.join(EVERY)
        with suppress(Exception):  # the run has ended: a lease that stays is forgotten by the watchdog
            holder.give_back()


def leases(pairs: KeyValues) -> Mapping[str, str]:
    """Returns every lease as text, by its key."""
    return pairs.list(PREFIX)
