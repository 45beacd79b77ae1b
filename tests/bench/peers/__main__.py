"""`python -m tests.bench.peers [CASE …] [--sizes 2048,4096] [--only monai,earthloom] [--runs 3]`."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.bench.command import table
from tests.bench.peers import overhead, peers

_CASES = {"peers": peers, "overhead": overhead}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.peers")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{' or '.join(_CASES)}; both when none is named")
    parser.add_argument("--sizes", default="2048,4096,8192", help="sides of the scenes in pixels")
    parser.add_argument("--only", default="", help="contenders, and earthloom for all its rows")
    parser.add_argument("--runs", type=int, default=1, help="of each, of which the cheapest counts")
    chosen = parser.parse_args()
    if unknown := sorted(set(chosen.cases) - set(_CASES)):
        parser.error(f"unknown case {unknown[0]!r}; there are {', '.join(_CASES)}")
    sizes = [int(size) for size in chosen.sizes.split(",")]
    only = [name for name in chosen.only.split(",") if name]
    for name in chosen.cases or _CASES:
        with tempfile.TemporaryDirectory(prefix="earthloom-peers-") as folder:
            rows = _CASES[name](Path(folder), sizes, only, chosen.runs)
            print(f"\n### {name}\n\n{table(rows)}", flush=True)


if __name__ == "__main__":
    main()
