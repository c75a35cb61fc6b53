"""The access file: ours alone, whole, and nothing secret where it could be seen."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gutscore_rs.access import Access, read_access, write_access
from gutscore_rs.errors import AccessError, ConfigError

SECRET = "s3cret/p@ss"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "access.json"
    write_access(path, Access.new("case", url="redis://host:6379/0", username="u", password=SECRET))
    return path


def rewrite(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_an_access_survives_its_file(tmp_path: Path) -> None:
    for access in (
        Access.new("a", url="rediss://h:1/2", username="u", password=SECRET),
        Access.new("b", socket="/run/s"),
    ):
        path = tmp_path / access.case
        write_access(path, access)
        assert read_access(path) == access
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_each_access_has_a_key_of_its_own() -> None:
    one, two = Access.new("a", socket="/s"), Access.new("a", socket="/s")
    assert len(one.signing_key) == 32
    assert one.signing_key != two.signing_key
    assert one.key_id != two.key_id


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:s3cret%2Fp%40ss@host:6379/0",
        "unix://user:s3cret%2Fp%40ss@/run/s.sock",
        "redis://host:6379/0?password=s3cret%2Fp%40ss&username=user",
        "rediss://user@host/0?password=s3cret%2Fp%40ss&x=1",
    ],
)
def test_a_password_is_taken_out_of_the_url_and_shown_nowhere(url: str) -> None:
    access = Access.new("case", url=url)
    assert (access.username, access.password) == ("user", SECRET)
    assert "s3cret" not in str(access.url)
    assert "s3cret" not in repr(access)
    assert access.signing_key.hex() not in repr(access)
    assert repr(access.signing_key) not in repr(access)


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("redis://:pw@host:6379/3", "redis://host:6379/3"),
        ("redis://h", "redis://h"),
        ("redis://[::1]:7/0", "redis://[::1]:7/0"),
        ("redis://h/0?protocol=3&password=pw", "redis://h/0?protocol=3"),
        ("unix:///run/s?db=2", "unix:///run/s?db=2"),
    ],
)
def test_the_rest_of_the_url_is_kept(url: str, kept: str) -> None:
    access = Access.new("case", url=url)
    assert access.url == kept
    assert access.username is None


def test_an_explicit_password_wins() -> None:
    assert Access.new("case", url="redis://u:old@h", password="new").password == "new"


@pytest.mark.parametrize(
    "url", ["http://h", "h:6379", "", "redis://", "redis://h:port", "redis://h:99999", "redis://[::1"]
)
def test_what_is_no_redis_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="redis://"):
        Access.new("case", url=url)


@pytest.mark.parametrize("given_", [{}, {"url": "redis://h", "socket": "/s"}])
def test_an_access_has_either_a_url_or_a_socket(given_: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="either"):
        Access.new("case", **given_)


def test_a_refused_url_is_quoted_without_its_password() -> None:
    with pytest.raises(ConfigError) as caught:
        Access.new("case", url="http://user:s3cret@h")
    assert "s3cret" not in str(caught.value)


def test_a_missing_file_says_how_to_start_the_case(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="gutscore-rs up"):
        read_access(tmp_path / "access.json")


@pytest.mark.parametrize("bits", [0o644, 0o640, 0o604, 0o660, 0o601])
def test_a_file_that_is_open_to_others_is_refused(file: Path, bits: int) -> None:
    file.chmod(bits)
    with pytest.raises(AccessError, match="chmod 600"):
        read_access(file)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_file_of_another_user_is_refused(file: Path) -> None:
    os.chown(file, 65534, 65534)
    with pytest.raises(AccessError, match="user 65534"):
        read_access(file)


def test_a_folder_in_its_place_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="cannot be read"):
        read_access(tmp_path)


def test_a_file_of_another_schema_is_refused_by_number(file: Path) -> None:
    rewrite(file, schema=2)
    with pytest.raises(AccessError, match="schema 2; this version reads 1"):
        read_access(file)


def test_a_file_that_was_cut_anywhere_is_refused(file: Path) -> None:
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(AccessError, match="garbled"):
            read_access(file)


@given(
    st.binary(max_size=200)
    | st.just(b"[" * 60_000)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ).map(lambda value: json.dumps(value).encode())
)
def test_garbage_is_refused(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "access.json"
    path.write_bytes(garbage)
    path.chmod(0o600)
    with pytest.raises(AccessError):
        read_access(path)


@pytest.mark.parametrize(
    "change",
    [
        {"signing_key": ""},
        {"signing_key": "00" * 31},
        {"signing_key": "zz" * 32},
        {"signing_key": 5},
        {"key_id": "short"},
        {"key_id": "é" * 16},
        {"key_id": None},
        {"case": 3},
        {"case": "../other"},
        {"url": None},
        {"socket": "/s"},
        {"password": 7},
        {"username": ["u"]},
    ],
)
def test_a_field_that_cannot_be_ours_is_refused(file: Path, change: dict[str, Any]) -> None:
    rewrite(file, **change)
    with pytest.raises(AccessError, match="garbled"):
        read_access(file)


def test_an_error_about_a_garbled_file_shows_no_secret(file: Path) -> None:
    rewrite(file, signing_key="s3cret")
    with pytest.raises(AccessError) as caught:
        read_access(file)
    assert "s3cret" not in str(caught.value)
