"""What to install so that a watch runs by itself: a crontab line, systemd units, or Kubernetes manifests, from one file.

Writes text and installs nothing. Every kind runs `earthloom watch FILE --once`: two that overlap do not disturb each other,
as the second finds the lease held and ends.
"""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from earthloom.jobs.operations.kubernetes import CONFIG_FOLDER, Cluster, nightly, ray_job
from earthloom.jobs.operations.watched import Feed, Watched
from earthloom.models.zoo import ZOO
from earthloom.models.zoo.indices import PREFIX as INDEX_PREFIX
from earthloom.tiling.errors import ConfigError

Kind = Literal["cron", "systemd", "kubernetes"]

_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_EVERY = re.compile(r"(\d+)([mh])")
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,40}[a-z0-9])?")


class ScheduleConfig(BaseModel):
    """Everything that a schedule is made of beside the file that is watched."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    kind: Kind
    out: Annotated[
        str | None, Field(description="folder or s3:// prefix of all outputs, where the file does not say")
    ] = None
    at: Annotated[str | None, Field(description="once a day, at this time in UTC: 02:30")] = None
    every: Annotated[str | None, Field(description="in place of a time of day: 15m, 1h, 6h")] = None
    name: Annotated[str | None, Field(description="of the units or manifests; default: that of the file")] = None
    address: Annotated[str | None, Field(description="of a Ray cluster, for cron and systemd")] = None
    image: Annotated[str | None, Field(description="container image, for Kubernetes")] = None
    secret: Annotated[str, Field(description="Kubernetes Secret with the AWS_* names")] = "earthloom-storage"
    gpus: Annotated[int, Field(ge=0, description="of each worker on Kubernetes; 0: workers compute on CPUs")] = 1
    max_workers: Annotated[int, Field(gt=0, description="most workers that Kubernetes may start")] = 8


def render(config: ScheduleConfig, watched: Watched) -> str:
    """The text to install, with how to install it in its comments.

    Args:
        watched: what the file says.

    Raises:
        ConfigError: if the time, the name or the file cannot be used for this kind.
    """
    name = config.name or re.sub(r"[^a-z0-9]+", "-", Path(config.file).stem.lower()).strip("-")
    if not _NAME.fullmatch(name):
        raise ConfigError(f"`name={name}`: use small letters, digits and '-', at most 42, beginning with a letter")
    minutes = _minutes(config)
    match config.kind:
        case "cron":
            return _cron(config, name, minutes)
        case "systemd":
            return _systemd(config, name, minutes)
        case "kubernetes":
            return _kubernetes(config, watched, name, minutes)


def cron_fields(minutes: int | tuple[int, int]) -> str:
    """Cron's five fields for a time of day (hour, minute), or for every so many minutes."""
    if isinstance(minutes, tuple):
        return f"{minutes[1]} {minutes[0]} * * *"
    if minutes < 60:
        return "* * * * *" if minutes == 1 else f"*/{minutes} * * * *"
    return "0 * * * *" if minutes == 60 else f"0 */{minutes // 60} * * *" if minutes < 1440 else "0 0 * * *"


def _minutes(config: ScheduleConfig) -> int | tuple[int, int]:
    if (config.at is None) == (config.every is None):
        raise ConfigError("give one of `at=02:30` and `every=6h`")
    if config.at is not None:
        if not (found := _TIME.fullmatch(config.at)):
            raise ConfigError(f"`at={config.at[:20]}` is no time of day such as 02:30")
        return int(found[1]), int(found[2])
    assert config.every is not None
    found = _EVERY.fullmatch(config.every)
    n = int(found[1]) if found else 0
    whole = found is not None and n > 0 and (60 if found[2] == "m" else 24) % n == 0
    if not found or not whole:
        raise ConfigError(
            f"`every={config.every[:20]}`: cron counts from the full hour or from midnight, so give minutes that divide 60 "
            "or hours that divide 24: 15m, 6h"
        )
    return n if found[2] == "m" else n * 60


def _command(config: ScheduleConfig, file: str, *, out: str | None = None) -> list[str]:
    command = ["watch", file, "--once", *(["--out", out] if out else [])]
    return command + (["--address", config.address] if config.address and config.kind != "kubernetes" else [])


def _here(config: ScheduleConfig) -> list[str]:
    """The command on this machine, by absolute paths: neither cron nor systemd knows this shell's folder or PATH."""
    file = config.file if "://" in config.file else str(Path(config.file).absolute())
    out = config.out if not config.out or "://" in config.out else str(Path(config.out).absolute())
    return [sys.executable, "-m", "earthloom", *_command(config, file, out=out)]


def _cron(config: ScheduleConfig, name: str, minutes: int | tuple[int, int]) -> str:
    line = shlex.join(_here(config)).replace("%", r"\%")  # a bare % would end the command
    return (
        f"# {name}: add to the crontab of the user who runs it, with `crontab -e`. Cron mails what is printed.\n"
        "# cronie (Fedora, RHEL, Arch) takes the zone from CRON_TZ; Debian's and Ubuntu's cron goes by the machine's own.\n"
        "CRON_TZ=UTC\n"
        f"{cron_fields(minutes)} cd {shlex.quote(str(Path.cwd())).replace('%', chr(92) + '%')} && {line}\n"
    )


def _systemd(config: ScheduleConfig, name: str, minutes: int | tuple[int, int]) -> str:
    if isinstance(minutes, tuple):
        when = f"*-*-* {minutes[0]:02}:{minutes[1]:02}:00 UTC"
    elif minutes < 60:
        when = f"*-*-* *:0/{minutes}:00 UTC"
    else:
        when = f"*-*-* 0/{minutes // 60}:00:00 UTC" if minutes < 1440 else "*-*-* 00:00:00 UTC"
    command = " ".join(_unit_word(word) for word in _here(config))
    return (
        f"# /etc/systemd/system/earthloom-{name}.service\n"
        "[Unit]\n"
        f"Description=Earthloom watch {name}\n"
        "Wants=network-online.target\n"
        "After=network-online.target\n"
        "\n"
        "[Service]\n"
        "Type=oneshot\n"
        f"ExecStart={command}\n"
        f"WorkingDirectory={str(Path.cwd()).replace('%', '%%')}\n"
        "# AWS_ACCESS_KEY_ID and its like, one NAME=value a line, readable by root alone\n"
        f"EnvironmentFile=-/etc/earthloom/{name}.env\n"
        "# the next turn goes on after scenes that failed (3), which the journal names, and after a stop (143)\n"
        "SuccessExitStatus=3 143\n"
        "KillSignal=SIGTERM\n"
        "TimeoutStopSec=10\n"
        "\n"
        f"# /etc/systemd/system/earthloom-{name}.timer\n"
        "[Unit]\n"
        f"Description=When the Earthloom watch {name} runs\n"
        "\n"
        "[Timer]\n"
        f"OnCalendar={when}\n"
        "Persistent=true\n"
        "\n"
        "[Install]\n"
        "WantedBy=timers.target\n"
        "\n"
        f"# systemctl daemon-reload && systemctl enable --now earthloom-{name}.timer\n"
    )


def _unit_word(word: str) -> str:
    word = word.replace("%", "%%").replace("$", "$$")
    return word if re.fullmatch(r"[\w@%+=:,./-]+", word) else '"' + word.replace("\\", r"\\").replace('"', r"\"") + '"'


def _kubernetes(config: ScheduleConfig, watched: Watched, name: str, minutes: int | tuple[int, int]) -> str:
    if not watched.out.startswith("s3://"):
        raise ConfigError(f"`out={watched.out}`: pods share no folder; on Kubernetes results go to s3://bucket/prefix")
    for feed in watched.feeds:
        for what, place in _places(feed):
            if "://" not in place:
                raise ConfigError(
                    f"{place}: pods do not see the folders of this machine; name {what} by s3:// or https://"
                )
    if "://" in config.file:
        raise ConfigError(f"{config.file}: the file becomes part of the manifests, so it must lie on this machine")
    if config.image is None:
        raise ConfigError("give `image`: where your registry has what infra/image/Dockerfile makes")
    full = f"earthloom-{name}"
    cluster = Cluster(
        image=config.image, ray_version=version("ray"), secret=config.secret, max_workers=config.max_workers,
        gpus=config.gpus,
    )  # fmt: skip
    command = _command(config, f"{CONFIG_FOLDER}/watch.toml", out=config.out)
    job = ray_job(full, cluster, shlex.join(["python", "-m", "earthloom", *command]), {full: CONFIG_FOLDER})
    text = Path(config.file).read_text()
    beside = tomllib.loads(text).get("geometry")
    if beside is not None and "://" not in beside:
        raise ConfigError(
            f"geometry: pods do not see {beside!r}; put it beside the scenes and name it by s3://, or give bbox, crs and gsd"
        )
    manifests = nightly(full, cron_fields(minutes), job, to_yaml(job), text)
    return (
        f"# kubectl apply -n NAMESPACE -f this-file.  Needs KubeRay, and a Secret {config.secret!r} with the AWS_* names:\n"
        f"# kubectl create secret generic {config.secret} -n NAMESPACE --from-env-file=storage.env\n"
        + "".join(f"---\n{to_yaml(manifest)}" for manifest in manifests)
    )


def _places(feed: Feed) -> Iterator[tuple[str, str]]:
    """What a run reads, in words, and where it lies."""
    yield from (("scenes", reference) for reference in feed.references)
    yield from (("earlier scenes", reference) for reference in feed.about["before"])
    for option in ("permanent_water", "footprints"):
        if feed.about[option]:
            yield f"`{option}`", feed.about[option]
    onto = feed.about["onto"] or ""
    if onto.lower().endswith((".geojson", ".json", ".toml")):
        yield "the grid of `onto`", onto
    for word in feed.about["model"]:
        for name in () if word.startswith(INDEX_PREFIX) else word.partition("@")[0].split("+"):
            if name not in ZOO and ("/" in name or Path(name).is_dir()):
                yield "models", name


def to_yaml(document: Mapping[str, Any]) -> str:
    """A manifest as text, in the order of its keys, long texts as blocks."""
    return str(yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=120))


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and no aliases, which people cannot read."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)
