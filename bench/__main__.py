"""`python -m bench [NAME…] [--quick]`: measure, print, and write down."""

from __future__ import annotations

import argparse
import time
from importlib import import_module

from bench.measure import Line
from bench.report import show, write_page, write_results

NAMES = ("reaction", "drain", "reading", "whole_fit", "frameworks", "memory")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure refitd against the bare driver.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(NAMES)}; by default all")
    parser.add_argument("--quick", action="store_true", help="smaller and less sure")
    parser.add_argument("--page", action="store_true", help="write the table into docs/benchmarks.md")
    given = parser.parse_args()
    unknown = set(given.names) - set(NAMES)
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; these are: {', '.join(NAMES)}")
    names = given.names or NAMES
    lines: list[Line] = []
    for name in names:
        print(f"{name} …", flush=True)
        began = time.monotonic()
        found = import_module(f"bench.{name}").run(given.quick)
        show(found)
        print(f"  ({time.monotonic() - began:.0f} s)", flush=True)
        lines += found
    command = " ".join(["python -m bench", *given.names, *(["--quick"] if given.quick else [])])
    print(f"written to {write_results(lines, command)}")
    if given.page or not (given.names or given.quick):
        write_page(lines, command)


if __name__ == "__main__":
    main()
