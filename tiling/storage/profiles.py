"""The profile of the AWS tools' own files, `~/.aws/credentials` and `~/.aws/config`, for libraries that read none.

GDAL reads these files and obstore does not; read here once, both hear the same. Knows the keys that a file holds as they
are, and names what only the AWS tools can turn into keys: single sign-on, roles, helper programs. Opens no connection.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from configparser import ConfigParser, Error
from dataclasses import dataclass, field
from pathlib import Path

_NAMES = {
    "aws_access_key_id": "AWS_ACCESS_KEY_ID",
    "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "aws_session_token": "AWS_SESSION_TOKEN",
    "region": "AWS_REGION",
    "endpoint_url": "AWS_ENDPOINT_URL",
}
_FOR_THE_TOOLS = ("sso_session", "sso_start_url", "role_arn", "credential_process", "login_session")
_EXPORT = 'eval "$(aws configure export-credentials --profile {} --format env)"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What the files say under one name."""

    name: str
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Settings by the names that the environment has for them."""
    problem: str = ""
    """Why no request can be signed by it, with the remedy; empty where nothing speaks against it."""


def read_profile(env: Mapping[str, str]) -> Profile:
    """The profile that AWS_PROFILE names, else `default`; keys come from `credentials` before `config`.

    Args:
        env: AWS_PROFILE (or AWS_DEFAULT_PROFILE), AWS_SHARED_CREDENTIALS_FILE, AWS_CONFIG_FILE and HOME are read.
    """
    asked = env.get("AWS_PROFILE") or env.get("AWS_DEFAULT_PROFILE") or ""
    name = asked or "default"
    home = Path(env.get("HOME") or "~").expanduser()
    secrets = Path(env.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws" / "credentials").expanduser()
    config = Path(env.get("AWS_CONFIG_FILE") or home / ".aws" / "config").expanduser()
    sections: dict[str, dict[str, str]] = {}
    services: dict[str, str] = {}
    try:
        for path, title in ((config, "profile "), (secrets, "")):
            for section, values in _sections(path):
                if section.startswith("services "):
                    services[section.removeprefix("services ").strip()] = _endpoint_of_s3(values.get("s3", ""))
                elif not title or section == "default" or section.startswith(title):
                    sections.setdefault(section.removeprefix(title).strip(), {}).update(values)
    except (OSError, UnicodeDecodeError, Error) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        return Profile(name=name, problem=f"{path} cannot be read ({why}): mend it, or set AWS_ACCESS_KEY_ID and "
                       "AWS_SECRET_ACCESS_KEY")  # fmt: skip
    if name not in sections:
        there = f"they hold {', '.join(sorted(sections)[:20])}" if sections else "they hold none"
        return Profile(name=name, problem=f"AWS_PROFILE={asked} is a profile of neither {secrets} nor {config}; {there}"
                       if asked else "")  # fmt: skip
    values = sections[name]
    if endpoint := services.get(values.get("services", "")):
        values["endpoint_url"] = endpoint
    settings = {_NAMES[key]: value for key, value in values.items() if key in _NAMES and value}
    only_tools = next((key for key in _FOR_THE_TOOLS if key in values), "")
    problem = ""
    if only_tools and "AWS_ACCESS_KEY_ID" not in settings:
        problem = (
            f"the AWS profile {name} has no keys of its own but {only_tools}, which only the AWS tools can turn into "
            f"keys; let them do so first: {_EXPORT.format(name)}"
        )
    return Profile(name=name, settings=settings, problem=problem)


def _sections(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    if not path.is_file():
        return
    parser = ConfigParser(interpolation=None, strict=False, default_section="\0", empty_lines_in_values=False)
    parser.read_string(path.read_text(encoding="utf-8"))
    for section in parser.sections():
        yield section, {key: value.strip() for key, value in parser.items(section)}


def _endpoint_of_s3(nested: str) -> str:
    """`endpoint_url` of the indented lines below `s3 =`."""
    for line in nested.splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "endpoint_url":
            return value.strip()
    return ""
