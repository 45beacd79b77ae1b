"""Finds the Ray cluster to connect to, and asks whether it would answer, before Ray itself is imported.

Ray's own connection attempt takes two minutes to notice a closed port, says "Failed to connect" for a wrong token after
twenty seconds, cannot be interrupted from Python, and reads RAY_AUTH_MODE only while being imported. Hence this probe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from earthloom.tiling.errors import EngineError

_GIVE_TOKEN = (
    "set RAY_AUTH_MODE=token and give the cluster's token as RAY_AUTH_TOKEN, as a file named by RAY_AUTH_TOKEN_PATH, or "
    "in ~/.ray/auth_token"
)


def resolve(address: str | None, env: Mapping[str, str]) -> str | None:
    """`host:port` or `auto` of the cluster to use, or None for an embedded one.

    Args:
        address: what the user gave; None for RAY_ADDRESS.
        env: environment to look in.

    Raises:
        EngineError: if it is not the address of a cluster's head.
    """
    source = "RAY_ADDRESS" if address is None else "the address"
    address = address if address is not None else env.get("RAY_ADDRESS", "").strip() or None
    if address is None or address == "local":
        return None
    if address == "auto":
        return address
    if address.startswith(("http://", "https://")):
        raise EngineError(
            f"{source} {address} is that of a dashboard, which takes jobs: `earthloom submit` sends the command there; to "
            "connect as a driver give the head's host:port (6379 by default), or `address=local` for an embedded instance"
        )
    if "://" in address:
        raise EngineError(f"{source} {address} has a scheme that is not used here; give the head's host:port")
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise EngineError(f"{source} {address!r} is not host:port; Ray's head listens on port 6379 by default")
    return address


@dataclass(frozen=True, slots=True)
class Token:
    """A cluster's secret and where it was found; only the latter may be shown."""

    secret: str
    source: str

    def __repr__(self) -> str:
        return f"Token(source={self.source!r})"


def find_token(env: Mapping[str, str]) -> Token | None:
    """The token that Ray would use, in Ray's order: RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token."""
    if secret := env.get("RAY_AUTH_TOKEN", "").strip():
        return Token(secret, "RAY_AUTH_TOKEN")
    named = env.get("RAY_AUTH_TOKEN_PATH", "").strip()
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    try:
        secret = path.read_text().strip()
    except OSError:
        return None
    return Token(secret, str(path)) if secret else None


class Answer(Enum):
    """How a head answered."""

    WELCOME = "welcome"
    REFUSED = "refused"
    """It wants a token, or another one."""


def ask(address: str, token: Token | None, timeout_s: float) -> Answer:
    """Call the head once.

    Raises:
        EngineError: if nothing answers within `timeout_s`, or what answers is not a Ray head.
    """
    import grpc

    channel = grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
    metadata = [("authorization", f"Bearer {token.secret}")] if token else []
    try:
        channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")(b"", timeout=timeout_s, metadata=metadata)
    except grpc.RpcError as error:
        code = error.code()
        if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            return Answer.REFUSED
        if "parsing HTTP/2" in (error.details() or ""):
            raise EngineError(
                f"{address} is a web server and not a Ray head; the dashboard's port (8265 by default) is for `ray job "
                "submit`, a driver connects to the head's port (6379 by default)"
            ) from None
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            raise EngineError(
                f"no Ray head answered at {address} within {timeout_s:g} s; check the host and port (6379 by default), "
                "that `ray start --head` is running there and that no firewall is between"
            ) from None
    finally:
        channel.close()
    return Answer.WELCOME  # also for any other status: a head that talks, to which Ray itself may say more


def auth_mode_for(address: str, env: Mapping[str, str], timeout_s: float) -> str | None:
    """The RAY_AUTH_MODE that must be set, beyond `env`, to be let in; None when `env` is right as it is.

    Args:
        address: `host:port`.
        env: environment with Ray's settings. Its token is sent only to a head that asks for one.
        timeout_s: per call.

    Raises:
        EngineError: if the head does not answer or would refuse this client.
    """
    mode = env.get("RAY_AUTH_MODE", "").strip().lower()
    token = find_token(env)
    if mode == "token" and token is None:
        raise EngineError(f"RAY_AUTH_MODE=token, but no token was found; {_GIVE_TOKEN}")
    if ask(address, token if mode == "token" else None, timeout_s) is Answer.WELCOME:
        return None
    if mode and mode != "token":
        raise EngineError(f"the Ray cluster at {address} wants a token and RAY_AUTH_MODE is {mode!r}; {_GIVE_TOKEN}")
    if token is None:
        raise EngineError(f"the Ray cluster at {address} wants a token and none was found; {_GIVE_TOKEN}")
    if mode == "token" or ask(address, token, timeout_s) is Answer.REFUSED:
        raise EngineError(
            f"the Ray cluster at {address} refuses the token from {token.source}, which is another cluster's; copy the "
            "token from the head node (`ray get-auth-token` there), then "
            f"{_GIVE_TOKEN}"
        )
    return "token"
