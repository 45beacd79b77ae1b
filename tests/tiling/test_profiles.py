"""Profiles of the AWS tools' files: read as botocore reads them, or refused with what to do."""

from __future__ import annotations

import string
import tempfile
from pathlib import Path

import pytest
from botocore.session import Session
from hypothesis import given, settings
from hypothesis import strategies as st

from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.profiles import read_profile
from earthloom.tiling.storage.settings import derive, unsigned
from earthloom.tiling.storage.store import open_store

pytestmark = pytest.mark.usefixtures("no_aws")

_WORD = st.text(string.ascii_letters + string.digits + "/+", min_size=16, max_size=40)
_NAME = st.sampled_from(["default", "work", "open-data"])
_ENTRY = st.fixed_dictionaries(
    {}, optional={"aws_access_key_id": _WORD, "region": st.sampled_from(["us-west-2", "eu-central-1"])}
)


def home(folder: Path, credentials: str = "", config: str = "") -> dict[str, str]:
    (folder / ".aws").mkdir(exist_ok=True)
    (folder / ".aws" / "credentials").write_text(credentials)
    (folder / ".aws" / "config").write_text(config)
    return {"HOME": str(folder)}


KEYS = "aws_access_key_id = KEYOFTHEPROFILE\naws_secret_access_key = secretoftheprofile\n"


def test_a_profile_becomes_what_every_library_hears(tmp_path: Path) -> None:
    env = home(
        tmp_path, f"[work]\n{KEYS}aws_session_token=tok\n",
        "[profile work]\nregion = eu-west-3\nservices = own\n[services own]\ns3 =\n  endpoint_url = http://127.0.0.1:8333\n",
    )  # fmt: skip
    derived = derive(env | {"AWS_PROFILE": "work"})
    assert derived["AWS_ACCESS_KEY_ID"] == "KEYOFTHEPROFILE"
    assert derived["AWS_SECRET_ACCESS_KEY"] == "secretoftheprofile"
    assert derived["AWS_SESSION_TOKEN"] == "tok"
    assert derived["AWS_REGION"] == derived["AWS_DEFAULT_REGION"] == "eu-west-3"
    assert derived["AWS_S3_ENDPOINT"] == "127.0.0.1:8333"
    assert "AWS_ACCESS_KEY_ID" not in derive(env), "another profile is nobody's default"


def test_the_environment_comes_before_a_profile(tmp_path: Path) -> None:
    env = home(tmp_path, f"[default]\n{KEYS}")
    assert derive(env)["AWS_ACCESS_KEY_ID"] == "KEYOFTHEPROFILE"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_NO_SIGN_REQUEST"):
        assert "AWS_SECRET_ACCESS_KEY" not in derive(env | {name: "yes"}), name


@pytest.mark.parametrize(
    ("credentials", "config", "profile", "problem"),
    [
        ("[default]\n" + KEYS, "", "wrok", r"AWS_PROFILE=wrok is a profile of neither .*they hold default"),
        ("", "[profile it]\nsso_session = corp\n", "it", r"it has no keys.*sso_session.*export-credentials --profile it"),
        ("", "[profile r]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = d\n", "r", "role_arn.*export-credentials"),
        ("", "[profile p]\ncredential_process = /bin/keys\n", "p", "credential_process"),
        ("no ini file", "", "default", r"credentials cannot be read \(MissingSectionHeaderError\): mend it"),
    ],
)  # fmt: skip
def test_a_profile_that_signs_nothing_is_named_when_a_bucket_is_opened(
    credentials: str, config: str, profile: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = home(tmp_path, credentials, config) | {"AWS_PROFILE": profile}
    derive(env)  # who opens no bucket is not bothered
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"s3://bucket: .*{problem}"):
        open_store(ObjectRef.parse("s3://bucket/a.tif"))
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    open_store(ObjectRef.parse("s3://bucket/a.tif"))


@settings(deadline=None, max_examples=40)
@given(
    credentials=st.dictionaries(_NAME, _ENTRY, max_size=3),
    config=st.dictionaries(_NAME, _ENTRY, max_size=3),
    name=_NAME,
)
def test_keys_and_regions_are_those_that_botocore_finds(
    credentials: dict[str, dict[str, str]], config: dict[str, dict[str, str]], name: str
) -> None:
    def text(sections: dict[str, dict[str, str]], title: str) -> str:
        lines = []
        for section, values in sections.items():
            lines.append(f"[{title if section != 'default' else ''}{section}]")
            key = values.get("aws_access_key_id")
            lines += [f"{field} = {value}" for field, value in values.items()]
            lines += [f"aws_secret_access_key = of{key}"] if key else []
        return "\n".join(lines)

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        env = home(Path(folder), text(credentials, ""), text(config, "profile "))
        names = {"AWS_SHARED_CREDENTIALS_FILE": f"{folder}/.aws/credentials", "AWS_CONFIG_FILE": f"{folder}/.aws/config",
                 "AWS_PROFILE": name, "AWS_EC2_METADATA_DISABLED": "true"}  # fmt: skip
        for variable, value in names.items():
            patch.setenv(variable, value)
        found = read_profile(env | names)
        if name not in {*credentials, *config}:
            assert name in found.problem
            return
        session = Session(profile=name)
        theirs = session.get_credentials()
        assert found.settings.get("AWS_ACCESS_KEY_ID") == (theirs.access_key if theirs else None)
        assert found.settings.get("AWS_SECRET_ACCESS_KEY") == (theirs.secret_key if theirs else None)
        assert found.settings.get("AWS_REGION") == session.get_config_variable("region")


@pytest.mark.parametrize("name", ["AWS_NO_SIGN_REQUEST", "AWS_SKIP_SIGNATURE"])
@pytest.mark.parametrize(("value", "holds"), [("YES", True), ("true", True), ("1", True), ("NO", False), ("", False)])
def test_an_open_bucket_is_said_once_and_heard_by_both_libraries(name: str, value: str, holds: bool) -> None:
    assert unsigned({name: value}) is holds
    derived = derive({name: value}) | ({name: value} if value else {})
    assert (unsigned({"AWS_NO_SIGN_REQUEST": derived.get("AWS_NO_SIGN_REQUEST", "")}) or not holds) is True
    assert (unsigned({"AWS_SKIP_SIGNATURE": derived.get("AWS_SKIP_SIGNATURE", "")}) or not holds) is True


def test_a_server_that_only_gdal_was_told_of_is_everybodys() -> None:
    derived = derive({"AWS_S3_ENDPOINT": "127.0.0.1:9000", "AWS_HTTPS": "NO"})
    assert derived["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9000"
    assert derive({"AWS_S3_ENDPOINT": "minio.example.org"})["AWS_ENDPOINT_URL"] == "https://minio.example.org"
