"""docker-compose.yml: valid by the compose specification's schema, and true to what the code reads."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.servers import program
from support.waiting import wait_until

from gutscore_rs import settings
from gutscore_rs.cli import COMMANDS

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text())


def test_it_is_valid_by_the_schema_of_the_compose_specification() -> None:
    # The package ships the schema; nothing is fetched.
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_is_no_rubber_stamp(tmp_path: Path) -> None:
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text("services:\n  redis:\n    imagine: redis\n")
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(wrong)],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1


def test_it_has_a_redis_a_provisioner_and_a_worker_group(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {"redis", "provisioner", "workergroup"}


def test_its_variables_are_read_and_its_command_exists(compose: dict[str, Any]) -> None:
    documentation = inspect.getdoc(settings) or ""
    for name in ("provisioner", "workergroup"):
        service = compose["services"][name]
        assert service["command"][0] in COMMANDS
        assert service["environment"]["GUTSCORE_RS_HOST"] == name
        assert all(f"``{variable}``" in documentation for variable in service["environment"])
        assert set(service["secrets"]) <= set(compose["secrets"])
        assert {volume.split(":")[0] for volume in service["volumes"]} <= set(compose["volumes"])


def test_redis_takes_its_configuration_from_the_pipe(compose: dict[str, Any], tmp_path: Path) -> None:
    """The very command of the service, with the container's paths and user replaced by ours."""
    server = program("redis")
    (tmp_path / "password").write_text("s3cret\n")
    script = compose["services"]["redis"]["command"][2]
    for there, here in (
        ("$$", "$"),
        ("/run/secrets/redis_password", str(tmp_path / "password")),
        ("dir /data", f"dir {tmp_path}"),
        ("bind * -::*", f"port 0\\nunixsocket {tmp_path}/s"),
        ("gosu redis redis-server", server),
    ):
        assert there in script
        script = script.replace(there, here)
    process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        cli = ["redis-cli", "-s", str(tmp_path / "s"), "ping"]
        env = dict(os.environ) | {"REDISCLI_AUTH": "s3cret"}
        wait_until(
            lambda: subprocess.run(cli, env=env, capture_output=True, check=False).stdout == b"PONG\n",
            what="the server answers with its password",
        )
        assert b"NOAUTH" in subprocess.run(cli, capture_output=True, check=False).stdout
    finally:
        process.terminate()
        process.wait(timeout=10)
