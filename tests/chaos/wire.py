"""Real drivers over a real S3 server, killed by the wire itself at a request of theirs."""

from __future__ import annotations

import os
import secrets
import signal
import time
from dataclasses import dataclass

from infra.processes import end
from infra.s3_server import s3_server
from tests.faults.golden import Golden, differences, published
from tests.faults.kills import start
from tests.faults.loop import lost_bytes
from tests.faults.proxy import FaultProxy, Rule, fault_proxy

KEYS = (
    r"runs/\.probe-", r"plan\.json$", r"attempts/1\.json$", r"0/classes/c/1/1$", r"blocks/1_1\.json$",
    r"1/classes/c/0/0$", r"water-index\.tif$", r"item\.json$", r"east/[^/]+/result\.json$", r"collection\.json$",
    r"catalog\.json$", r"items\.parquet$", r"west/[^/]+/result\.json$", r"commit\.json$",
)  # fmt: skip
ACTIONS = ("kill before", "kill after", "503", "lost", "reset")


@dataclass(frozen=True, slots=True, kw_only=True)
class WireVerdict:
    """What became of one fault on the wire."""

    action: str
    key: str
    fired: int
    runs: int
    lost_bytes: int
    seconds: float
    wrong: tuple[str, ...]


def strike_the_wire(golden: Golden, actions: tuple[str, ...] = ACTIONS) -> list[WireVerdict]:
    """Each action once at the first PUT of each of KEYS."""
    verdicts = []
    with s3_server(["outputs"]) as server, fault_proxy(server.endpoint) as proxy:
        env = {**server.env, "AWS_ENDPOINT_URL": proxy.endpoint}
        for action in actions:
            verdicts += [_strike(golden, proxy, env, action, key) for key in KEYS]
    return verdicts


def _strike(golden: Golden, proxy: FaultProxy, env: dict[str, str], action: str, key: str) -> WireVerdict:
    begun, out, runs, wrong, fired = time.monotonic(), f"s3://outputs/{secrets.token_hex(6)}", 0, list[str](), 0
    os.environ.update(env)  # `published` reads the same server
    while runs < 3:
        process = start(golden, out, "local", env)
        proxy.set(*([Rule("PUT", key, action, pid=process.pid)] if runs == 0 else []))
        runs += 1
        try:
            stdout, _ = process.communicate(timeout=180)
        finally:
            end(process, grace_s=3)
        fired += sum(proxy.fired())
        if process.returncode == 0:
            break
        if process.returncode != -signal.SIGKILL:
            wrong.append(f"run {runs} ended with {process.returncode}: {stdout[-300:]}")
    else:
        wrong.append(f"not done after {runs} runs")
    if not fired:
        wrong.append("the request was never made")
    proxy.set()
    lost = differences(published(out), golden.published)
    wrong += [f"{name} differs" for name in lost]
    return WireVerdict(
        action=action, key=key, fired=fired, runs=runs, lost_bytes=lost_bytes(lost, golden),
        seconds=time.monotonic() - begun, wrong=tuple(wrong),
    )  # fmt: skip
