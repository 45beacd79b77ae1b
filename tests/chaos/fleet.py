"""A night of a fleet: thousands of small scenes, bad ones among them, on storage that fails; drivers, workers, nodes killed.

    python -m tests.chaos.fleet [--scenes 2000] [--planned 100000]

Two watchers look at one bucket, of which one works. Scenes arrive while they do. The working one is killed three times,
and another one started; workers are killed; two nodes of the cluster are lost with what is in them, and others come; one
request of a hundred fails. In the end every good scene must be published once and every bad one named. Then a driver plans
and sends 100,000 scenes to workers that do nothing: its time and memory.
Prints a Markdown table; exits with 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from earthloom.tiling.rounding import ceil_div
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.settings import derive
from earthloom.tiling.storage.store import Store, open_store
from infra.processes import end
from infra.ray_cluster import Node, local_cluster
from infra.s3_server import s3_server
from tests.chaos.planned import planned
from tests.faults.proxy import Rule, fault_proxy
from tests.faults.watchers import start_watcher
from tests.scenes import landscape, write_scene

_KILLS = (0.15, 0.4, 0.65)
"""Shares of the good scenes at which the working watcher is killed."""
_WORKERS_LOST = (0.25, 0.5, 0.75)
_NODES_LOST = (0.3, 0.6)
_ARRIVALS = (0.0, 0.2, 0.45, 0.7)
"""Shares of the good scenes at which another part of them arrives."""
_LIMIT_S = 6 * 3600
_AT_ONCE = 250
"""Scenes that a watcher hands to one run: its workers take ten processor seconds to start."""
_OPTIONS = """model = "water-index"
scale = 1e-4
quantity = "reflectance"
shard = 512
block = 512
device = "cpu"
workers = 2
"""


@dataclass(slots=True)
class Night:
    """What became of it."""

    good: int
    bad: int
    seconds: float = 0.0
    drivers_killed: int = 0
    workers_killed: int = 0
    nodes_lost: int = 0
    requests_failed: int = 0
    published: int = 0
    """Scenes with a commit."""
    named: int = 0
    """Bad scenes with their reason."""
    twice: int = 0
    """Scenes that two runs computed to the end, of which one commit counts."""
    wrong: list[str] = field(default_factory=list)


def night(n_scenes: int, folder: Path, seed: int) -> Night:
    """Live through it."""
    n_bad = max(3, n_scenes * 2 // 100)
    made = Night(good=n_scenes - n_bad, bad=n_bad)
    with ExitStack() as stack:
        server = stack.enter_context(s3_server(["scenes", "maps"], timeout_s=120))
        proxy = stack.enter_context(fault_proxy(server.endpoint))
        cluster = stack.enter_context(
            local_cluster(0, timeout_s=300, env=server.env | {"AWS_ENDPOINT_URL": proxy.endpoint})
        )
        nodes = [stack.enter_context(cluster.node(f"node-{n}")) for n in range(2)]
        os.environ.update(server.env | derive(server.env))
        parts = _parts(n_scenes, n_bad, folder, seed)
        file = folder / "fleet.toml"
        file.write_text(
            f'scenes = "s3://scenes/in/"\nout = "s3://maps/night"\naddress = "{cluster.address}"\n{_OPTIONS}'
        )
        proxy.set(Rule("GET|PUT|HEAD|POST|DELETE", "/(scenes|maps)", "503", every=100))
        env = cluster.env | server.env | {"AWS_ENDPOINT_URL": proxy.endpoint}
        begun = time.monotonic()
        _live(made, parts, file, env, folder, nodes, lambda name: stack.enter_context(cluster.node(name)))
        made.seconds = time.monotonic() - begun
        made.requests_failed = sum(proxy.fired())
        _judge(made, open_store(ObjectRef.parse("s3://maps/night")))
        checked = subprocess.run(
            [sys.executable, "-m", "earthloom", "verify", "s3://maps/night"], env={**os.environ}, capture_output=True, text=True
        )  # fmt: skip
        if checked.returncode:
            made.wrong.append(f"verify: {(checked.stdout + checked.stderr)[-500:]}")
    return made


def _live(
    made: Night, parts: list[list[Path]], file: Path, env: dict[str, str], folder: Path, nodes: list[Node],
    add: Callable[[str], Node],
) -> None:  # fmt: skip
    source, out = (open_store(ObjectRef.parse(url)) for url in ("s3://scenes/in", "s3://maps/night"))
    kills, deaths, losses, arrivals = list(_KILLS), list(_WORKERS_LOST), list(_NODES_LOST), list(_ARRIVALS)
    watchers = [start_watcher(file, folder / f"watcher-{n}.log", at_once=_AT_ONCE, env=env) for n in range(2)]
    deadline, told = time.monotonic() + _LIMIT_S, 0.0
    try:
        while True:
            looked = time.monotonic()
            done = sum(head.key.endswith("/result.json") for head in out.list("scenes"))
            share = done / made.good
            if time.monotonic() - told > 20:
                told = time.monotonic()
                print(f"  {done} of {made.good} published", file=sys.stderr, flush=True)
            while arrivals and share >= arrivals[0]:
                arrivals.pop(0)
                for path in parts.pop(0):
                    source.put(path.name, path.read_bytes())
            if kills and share >= kills[0] and (working := _working(out, watchers)) is not None:
                kills.pop(0)
                working.kill()
                working.wait()
                made.drivers_killed += 1
                watchers[watchers.index(working)] = start_watcher(
                    file, folder / f"watcher-{made.drivers_killed + 1}.log", at_once=_AT_ONCE, env=env
                )
            while deaths and share >= deaths[0] and time.monotonic() < deadline:
                if _kill_a_worker(nodes):  # there is none while a run plans
                    deaths.pop(0)
                    made.workers_killed += 1
                else:
                    time.sleep(0.5)
            if losses and share >= losses[0]:
                losses.pop(0)
                made.nodes_lost += 1
                nodes.pop(0).kill()
                nodes.append(add(f"node-{made.nodes_lost + 1}"))
            if (
                done == made.good
                and not parts
                and len(_named(out, "bad")) + len(_named(out, "done")) == made.good + made.bad
            ):
                break
            if time.monotonic() > deadline:
                made.wrong.append(f"not done after {_LIMIT_S / 3600:g} h")
                break
            time.sleep(max(1.0, 8 * (time.monotonic() - looked)))  # listing a whole night takes the server's time
    finally:
        for watcher in watchers:
            end(watcher, grace_s=5)


def _parts(n_scenes: int, n_bad: int, folder: Path, seed: int) -> list[list[Path]]:
    """The files, in the parts in which they arrive. Bad ones: no TIFF, half a TIFF, or a band that the model lacks."""
    dice = random.Random(seed)
    made = {
        names: [write_scene(folder / f"{names[1]}-{seed}.tif", landscape(64, 64, 2, seed), names).read_bytes()
                for seed in range(8)]
        for names in (("green", "swir16"), ("green", "pan"))
    }  # fmt: skip
    (folder / "in").mkdir()
    bad = set(dice.sample(range(n_scenes), n_bad))
    files: list[Path] = []
    for number in range(n_scenes):
        path = folder / "in" / f"{'bad' if number in bad else 'good'}-{number:05}.tif"
        kind = number % 3 if number in bad else -1
        data = made["green", "pan" if kind == 2 else "swir16"][number % 8]
        path.write_bytes(b"this is no TIFF" if kind == 0 else data[: len(data) // 2] if kind == 1 else data)
        files.append(path)
    dice.shuffle(files)
    size = ceil_div(n_scenes, len(_ARRIVALS))
    return [files[start : start + size] for start in range(0, n_scenes, size)]


def _working(out: Store, watchers: list[subprocess.Popen[bytes]]) -> subprocess.Popen[bytes] | None:
    """The watcher that holds the lease."""
    for head in out.list("watches"):
        if head.key.endswith("/lease.json"):
            pid = json.loads(out.get(head.key))["pid"]
            return next((one for one in watchers if one.pid == pid and one.poll() is None), None)
    return None


def _kill_a_worker(nodes: list[Node]) -> bool:
    for child in [one for node in nodes for one in psutil.Process(node.process.pid).children(recursive=True)]:
        try:
            if child.name().startswith("ray::Lanes"):
                child.kill()
                return True
        except psutil.NoSuchProcess:
            continue
    return False


def _named(out: Store, kind: str) -> list[str]:
    return [head.key for head in out.list("watches") if f"/{kind}/" in head.key]


def _judge(made: Night, out: Store) -> None:
    commits = Counter(head.key.split("/")[1] for head in out.list("scenes") if head.key.endswith("/result.json"))
    made.published = len(commits)
    reasons = [json.loads(out.get(key)) for key in _named(out, "bad")]
    made.named = len(reasons)
    if any(n > 1 for n in commits.values()):
        made.wrong.append(f"{sum(n > 1 for n in commits.values())} scenes have two commits")
    if len(commits) != made.good:
        made.wrong.append(f"{len(commits)} scenes are published of {made.good}")
    if len(reasons) != made.bad or not all(one["reason"] and one["id"].startswith("bad") for one in reasons):
        made.wrong.append(f"{len(reasons)} scenes are named as bad, and {made.bad} are")
    seen = Counter[str]()
    for head in out.list("runs"):
        if "/attempts/" in head.key:
            for name, scene in json.loads(out.get(head.key))["scenes"].items():
                seen[name] += scene["status"] == "published"
    made.twice = sum(n > 1 for n in seen.values())


def main() -> int:
    """Live through a night, then plan for many; print what became of both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scenes", type=int, default=2000, help="of the night; 0: none")
    parser.add_argument("--planned", type=int, default=100_000, help="scenes that a driver plans for; 0: none")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers and watchers are ended by what started them
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="fleet-") as scratch:
        if asked.scenes:
            made = night(asked.scenes, Path(scratch), asked.seed)
            rows = {
                "scenes": made.good + made.bad, "of them bad": made.bad, "seconds": round(made.seconds),
                "scenes per hour": round((made.good + made.bad) / made.seconds * 3600),
                "drivers killed": made.drivers_killed, "workers killed": made.workers_killed, "nodes lost": made.nodes_lost,
                "requests failed on purpose": made.requests_failed, "published": made.published,
                "named with a reason": made.named, "published by two runs": made.twice,
            }  # fmt: skip
            print("\n".join(f"| {name} | {value} |" for name, value in rows.items()), flush=True)
            wrong = made.wrong
    if asked.planned:
        print("\n".join(f"| {name} | {value} |" for name, value in planned(asked.planned).items()), flush=True)
    for one in wrong:
        print(f"WRONG {one}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
