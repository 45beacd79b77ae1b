from __future__ import annotations

import http.server
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from earthloom.cluster.address import Answer, ask, auth_mode_for, find_token, resolve
from earthloom.tiling.errors import EngineError
from tests.serving import serving


@pytest.mark.parametrize(
    ("given", "env", "found"),
    [
        (None, {}, None),
        (None, {"RAY_ADDRESS": ""}, None),
        (None, {"RAY_ADDRESS": "head:6379"}, "head:6379"),
        ("local", {"RAY_ADDRESS": "head:6379"}, None),
        ("10.0.0.1:6379", {"RAY_ADDRESS": "head:6379"}, "10.0.0.1:6379"),
        ("auto", {}, "auto"),
        ("[::1]:6379", {}, "[::1]:6379"),
    ],
)
def test_what_is_given_wins_over_the_environment(given: str | None, env: dict[str, str], found: str | None) -> None:
    assert resolve(given, env) == found


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("http://head:8265", r"http://head:8265 is that of a dashboard.*earthloom submit.*host:port"),
        ("ray://head:10001", "scheme"),
        ("head", "not host:port"),
        ("head:port", "not host:port"),
        ("head:99999", "not host:port"),
        (":6379", "not host:port"),
    ],
)
def test_other_forms_are_refused_with_what_to_give_instead(given: str, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        resolve(given, {})
    with pytest.raises(EngineError, match="RAY_ADDRESS"):
        resolve(None, {"RAY_ADDRESS": given})


def test_the_token_is_found_in_rays_order_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_token({}) is None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("from-home\n")
    (tmp_path / "named").write_text("from-file\n")
    named = {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "named")}
    secrets = [find_token(env) for env in ({}, named, named | {"RAY_AUTH_TOKEN": "from-env"})]
    assert [token.secret for token in secrets if token] == ["from-home", "from-file", "from-env"]
    assert "from-" not in repr(secrets)


def test_a_closed_port_is_reported_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        begun = time.monotonic()
        with pytest.raises(EngineError, match=f"no Ray head answered at {address} within 120 s; .*ray start --head"):
            ask(address, None, 120)
        assert time.monotonic() - begun < 60, "it was waited for"


def test_a_port_that_accepts_and_says_nothing_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(EngineError, match=r"no Ray head answered .* within 1 s"):
            ask(f"127.0.0.1:{silent.getsockname()[1]}", None, 1)


@pytest.fixture
def web_server() -> Iterator[str]:
    with serving(http.server.BaseHTTPRequestHandler) as host:
        yield host


def test_a_web_server_is_told_from_a_head(web_server: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EngineError, match="is a web server and not a Ray head"):
        ask(web_server, None, 5)
    capfd.readouterr()


BEFORE_ANY_CALL = "127.0.0.1:1"


def test_token_mode_without_a_token_is_refused_before_any_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(EngineError, match=r"no token was found; .*RAY_AUTH_TOKEN_PATH"):
        auth_mode_for(BEFORE_ANY_CALL, {"RAY_AUTH_MODE": "token"}, 1)


TABLE = [
    # mode, token, open to, extra mode or message
    ("", None, {None}, None),
    ("", "t", {None}, None),
    ("token", "t", {"t"}, None),
    ("", "t", {"t"}, "token"),
    ("", "u", {"t"}, "refuses the token from RAY_AUTH_TOKEN"),
    ("", None, {"t"}, "wants a token and none was found"),
    ("token", "u", {"t"}, "refuses the token from RAY_AUTH_TOKEN"),
    ("disabled", "t", {"t"}, "RAY_AUTH_MODE is 'disabled'"),
]


@pytest.mark.parametrize(("mode", "token", "welcome", "expected"), TABLE)
def test_authentication_modes(
    mode: str,
    token: str | None,
    welcome: set[str | None],
    expected: str | None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(
        "earthloom.cluster.address.ask",
        lambda _address, token, _timeout: Answer.WELCOME if (token and token.secret) in welcome else Answer.REFUSED,
    )
    env = {"RAY_AUTH_MODE": mode} | ({"RAY_AUTH_TOKEN": token} if token else {})
    if expected in (None, "token"):
        assert auth_mode_for("head:6379", env, 1) == expected
    else:
        with pytest.raises(EngineError, match=expected):
            auth_mode_for("head:6379", env, 1)
