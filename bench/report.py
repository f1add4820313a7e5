"""What the benchmarks found: a table for people, JSON for machines, and the table in docs/benchmarks.md."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.measure import Line
from bench.servers import ROOT

RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
_BLOCK = re.compile(r"(<!-- generated: benchmarks -->\n).*?(<!-- end -->)", re.DOTALL)
_PACKAGES = ("pymongo", "pyarrow", "pymongoarrow", "numpy", "scikit-learn", "ray")


def machine() -> dict[str, Any]:
    """What it ran on; no names."""
    found = re.findall(r"^model name\s*:\s*(.*)$", _read("/proc/cpuinfo"), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    return {
        "cpu": found[0] if found else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory[1]) / 2**20, 1) if memory else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
        "load": round(os.getloadavg()[0], 1),
    }


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def show(lines: Iterable[Line]) -> None:
    """One line a measurement, parts below."""
    for line in lines:
        mark = {None: " ", True: "✓", False: "✗"}[line.met]
        print(f"{mark} {line.benchmark:10} {line.case:44} {_pair(line):>24}  {line.ratio:5.2f} ×  {line.must}")
        if line.parts:
            print(f"{'':13}{_parts(line.parts)}")
        if line.note:
            print(f"{'':13}{line.note}")


def _pair(line: Line) -> str:
    return f"{_seconds(line.ours)} / {_seconds(line.floor)}"


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _parts(parts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {_seconds(seconds)}" for name, seconds in parts.items())


def write_results(lines: Sequence[Line], command: str) -> Path:
    """Everything, with the single repeats."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    at = datetime.now(UTC)
    path = RESULTS / f"{at:%Y%m%dT%H%M%SZ}.json"
    rows = [{**dataclasses.asdict(line), "ratio": line.ratio} for line in lines]
    document = {"at": at.isoformat(), "command": command, "machine": machine(), "lines": rows}
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False))
    return path


def write_page(lines: Sequence[Line], command: str) -> None:
    """The table between the markers of docs/benchmarks.md."""
    here = machine()
    packages = ", ".join(f"{name} {number}" for name, number in here["packages"].items())
    head = (
        f"`{command}` on {datetime.now(UTC):%Y-%m-%d}, {here['cores']} cores ({here['cpu']}), "
        f"{here['memory_gib']} GiB, {here['system']}, Python {here['python']}; {packages}; "
        f"the machine's load at the end was {here['load']}.\n\n"
    )
    table = "| benchmark | case | floor | ours | ours ÷ floor | must | | parts |\n|---|---|---|---|---|---|---|---|\n"
    for line in lines:
        mark = {None: "", True: "✓", False: "✗"}[line.met]
        cells = (line.benchmark, line.case, _seconds(line.floor), _seconds(line.ours), f"{line.ratio:.2f}", line.must)
        said = "; ".join(part for part in (_parts(line.parts), line.note) if part)
        table += f"| {' | '.join((*cells, mark, said))} |\n"
    text = PAGE.read_text()
    PAGE.write_text(_BLOCK.sub(lambda found: found[1] + head + table + found[2], text))
