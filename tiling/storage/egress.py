"""The only way out to web servers: a gate on 127.0.0.1 per host, through which GDAL and obstore must go.

Both follow redirects, and neither can be kept from it; a hostile server could send them to a metadata service or a machine
inside. A gate is a proxy that connects to its one host and to nothing else, and to no private address unless the operator
lists the host in EARTHLOOM_HTTP_HOSTS. Bytes of https pass through unread. Knows nothing of what is fetched.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from urllib.request import getproxies_environment

from earthloom.tiling.errors import ConfigError, StorageError
from earthloom.tiling.storage import gate


def listed_hosts() -> set[str]:
    """`host` and `host:port` entries of EARTHLOOM_HTTP_HOSTS, which the operator vouches for."""
    return {host.strip().lower() for host in os.environ.get("EARTHLOOM_HTTP_HOSTS", "").split(",") if host.strip()}


def proxy_for(scheme: str, host: str) -> str | None:
    """`http://127.0.0.1:port` of the gate to a web server; None where the operator's own proxy watches the way out.

    Args:
        scheme: `https` or `http`.
        host: `host` or `host:port`.

    Raises:
        ConfigError: if the host has a private, local or metadata address and is not listed.
        StorageError: if its name cannot be resolved.
    """
    if {"http", "https", "all"} & getproxies_environment().keys() or os.environ.get("GDAL_HTTP_PROXY"):
        return None
    for name in ("no_proxy", "NO_PROXY"):  # without a proxy of the operator's they serve only to go around ours
        os.environ.pop(name, None)
    resolve(*_split(scheme, host))
    return f"http://127.0.0.1:{_ask('port', scheme, host)}"


def refusal(scheme: str, host: str) -> str | None:
    """Where the server of a gate last tried to lead a client, in words, and forget it."""
    where = _ask("refused", scheme, host) if os.getpid() in _keepers else None
    return None if where is None else str(where)


def resolve(host: str, port: int) -> list[str]:
    """Addresses of a host, all of them public unless it is listed.

    Raises:
        ConfigError: if one of them is not.
        StorageError: if there is none.
    """
    try:
        return gate.addresses(host, port, inside=_is_listed(host, port))
    except PermissionError as error:
        raise ConfigError(str(error)) from None
    except (OSError, UnicodeError) as error:
        raise StorageError(f"cannot find the address of {host}: {error}; check the spelling", transient=True) from None


def _is_listed(host: str, port: int) -> bool:
    return bool({host, f"{host}:{port}"} & listed_hosts())


def _split(scheme: str, authority: str) -> tuple[str, int]:
    try:
        return gate.split(scheme, authority)
    except ValueError:
        raise ConfigError(f"{authority[:80]!r} is not host or host:port") from None


_asking = threading.Lock()
_keepers: dict[int, subprocess.Popen[str]] = {}
"""The process that keeps the gates, by the process that started it: a fork must not share its pipes."""


def _ask(question: str, scheme: str, authority: str) -> int | str | None:
    host, port = _split(scheme, authority)
    with _asking:
        try:
            return _exchange(json.dumps([question, host, port, _is_listed(host, port)]))
        except OSError as error:
            raise StorageError(f"the gate to {host} cannot be opened: {error}", transient=True) from None


def _exchange(line: str) -> int | str | None:
    keeper = _keepers.get(os.getpid())
    if keeper is None or keeper.poll() is not None:
        command = [sys.executable, "-I", "-S", gate.__file__]
        keeper = _keepers[os.getpid()] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            start_new_session=True,  # Ctrl-C asks a run to finish what it has begun, which needs the gates
        )  # fmt: skip
    assert keeper.stdin
    assert keeper.stdout
    keeper.stdin.write(f"{line}\n")
    keeper.stdin.flush()
    answer = keeper.stdout.readline()
    if not answer:
        raise BrokenPipeError("its process ended")
    reply: int | str | None = json.loads(answer)
    return reply
