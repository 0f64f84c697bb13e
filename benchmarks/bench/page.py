"""Writes the figures as a page of Markdown with a picture for each workload; measures nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks.bench.measure import Taken
from benchmarks.bench.workloads import LIMIT, OURS, Workload

_HEAD = """# Benchmarks

Written by `make bench`. All contestants of a workload run in turns on one machine; the figures are medians over the rounds, and their
ratio is to the limit, which is measured beside them: the least that the servers need for the work, by their own tools. What each
contestant wrote is compared with the source; one that is wrong has no figure. CPU is that of the contestant and all that it started,
and behind the plus that of the server. Memory is the most that its processes held together.

"""


def page(
    facts: Mapping[str, object], workloads: Sequence[Workload], results: Mapping[str, Mapping[str, Sequence[Taken]]]
) -> str:
    """Returns the page.

    Args:
        facts: Rows, rounds and the machine, by name.
        workloads: In order.
        results: Workload -> contestant -> its runs.
    """
    told = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    return f"{_HEAD}{told}\n" + "".join(_section(each, results[each.name]) for each in workloads)


def _section(workload: Workload, runs: Mapping[str, Sequence[Taken]]) -> str:
    limit = median(each.wall for each in runs[LIMIT])
    lines = [_line(name, taken, limit) for name, taken in runs.items()]
    ours = runs[OURS]
    verdict = "no figure" if ours[-1].failed else f"{median(each.wall for each in ours) / limit:.2f}"
    return (
        f"\n## {workload.title}\n\nTo reach: {workload.goal}. Reached: {verdict}.\n\n"
        "| | wall s | to the limit | CPU s | peak MiB |\n|---|---|---|---|---|\n"
        + "\n".join(lines)
        + f"\n\n{_picture(runs, limit)}\n"
    )


def _line(name: str, taken: Sequence[Taken], limit: float) -> str:
    if failed := next((each.failed for each in taken if each.failed), ""):
        return f"| {name} | – | {' '.join(failed.split())[:200].replace('|', '/')} | – | – |"
    wall, cpu, server, peak = (
        median(getattr(each, what) for each in taken) for what in ("wall", "cpu", "server_cpu", "peak_mib")
    )
    return f"| {name} | {wall:.1f} | {wall / limit:.2f} | {cpu:.1f} + {server:.1f} | {peak:.0f} |"


def _picture(runs: Mapping[str, Sequence[Taken]], limit: float) -> str:
    right = {name: taken for name, taken in runs.items() if taken and not taken[-1].failed}
    names = ", ".join(f'"{name}"' for name in right)
    ratios = ", ".join(f"{median(each.wall for each in taken) / limit:.2f}" for taken in right.values())
    return f'```mermaid\nxychart-beta horizontal\n  x-axis [{names}]\n  y-axis "wall time, as a ratio to the limit"\n  bar [{ratios}]\n```'
