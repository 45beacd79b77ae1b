"""`python -m infra.gpu_check pack | measure FOLDER [--device cpu] [--only NAME …] | section …`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from infra.gpu_check import bundle, sections


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m infra.gpu_check", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("pack", help="make the archive that travels, here where there is a package index")
    measure = commands.add_parser("measure", help="run all sections")
    measure.add_argument("folder", type=Path, help="where gpu.json, trace.json.gz and the log go")
    measure.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a rehearsal with small sizes")
    measure.add_argument("--budget-s", type=float, default=460.0, help="seconds for all sections, from --begun")
    measure.add_argument(
        "--begun", type=float, default=time.time(), help="when the script began, in seconds since 1970"
    )
    measure.add_argument("--only", nargs="*", default=(), help="sections by name, instead of all")
    section = commands.add_parser("section", help="run one section in this process; `measure` calls this")
    section.add_argument("name")
    section.add_argument("--device", required=True)
    section.add_argument("--work", type=Path, required=True, help="folder of scenes, networks and outputs")
    section.add_argument(
        "--rows", type=Path, required=True, help="file that rows are appended to, one JSON object a line"
    )
    options = parser.parse_args()
    if options.command == "pack":
        print(f"{bundle.ARCHIVE}: {bundle.pack() / 2**20:.1f} MiB travel, tracked files included")
        return 0
    if options.command == "measure":
        deadline = options.begun + options.budget_s
        return sections.measure(options.folder, options.device, deadline, options.only)
    sections.run_section(options.name, options.device, options.work, options.rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
