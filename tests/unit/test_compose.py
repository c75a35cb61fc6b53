"""docker-compose.yml follows the compose schema, and fits the settings, the image and the rules for secrets."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.servers import program
from support.waiting import wait_until

from gutscore_rs import settings
from gutscore_rs.cli import COMMANDS

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
COMPOSE = yaml.safe_load(FILE.read_text())
SERVICES = COMPOSE["services"]
HOSTS = {name: service for name, service in SERVICES.items() if name != "redis"}
each_host = pytest.mark.parametrize("host", HOSTS)


def check(file: Path) -> subprocess.CompletedProcess[str]:
    """Hold a file against the compose schema that check-jsonschema ships; nothing is fetched."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_it_follows_the_compose_schema() -> None:
    done = check(FILE)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("service", ["imagine: redis", "image: [redis]"])
def test_the_schema_would_see_a_wrong_key_and_a_wrong_type(service: str, tmp_path: Path) -> None:
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(f"services:\n  redis:\n    {service}\n")
    assert check(wrong).returncode == 1


def test_what_a_service_refers_to_is_there() -> None:
    for service in SERVICES.values():
        assert set(service.get("networks", [])) <= set(COMPOSE["networks"])
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
        assert set(service.get("depends_on", {})) <= set(SERVICES)
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in COMPOSE["volumes"]


@each_host
def test_each_variable_of_a_host_is_one_that_is_read(host: str) -> None:
    read = set(re.findall(r"``(GUTSCORE_RS_[A-Z_]+)``", settings.__doc__ or ""))
    assert set(HOSTS[host]["environment"]) <= read


@each_host
def test_a_host_reaches_redis_by_url_with_the_password_in_a_file(host: str) -> None:
    environment = HOSTS[host]["environment"]
    assert environment["GUTSCORE_RS_REDIS_URL"] == "redis://redis:6379/0"
    assert environment["GUTSCORE_RS_REDIS_PASSWORD_FILE"] == "/run/secrets/redis_password"
    assert HOSTS[host]["secrets"] == ["redis_password"]
    assert set(HOSTS[host]["networks"]) & set(SERVICES["redis"]["networks"])


@each_host
def test_all_hosts_share_the_folder_of_the_access_file(host: str) -> None:
    (volume,) = HOSTS[host]["volumes"]
    name, folder = volume.split(":")
    assert name == "state"
    # In the volume, not the volume itself: it must belong to the user of the container.
    assert Path(HOSTS[host]["environment"]["GUTSCORE_RS_STATE_DIR"]).parent == Path(folder)
    assert f"mkdir -m 1777 {folder}" in (ROOT / "Dockerfile").read_text()


def test_the_hosts_that_stay_have_names_of_their_own() -> None:
    names = [HOSTS[host]["environment"]["GUTSCORE_RS_HOST"] for host in ("provisioner", "workergroup")]
    assert len(set(names)) == 2


@pytest.mark.parametrize("host", ["provisioner", "workergroup"])
def test_a_host_runs_a_provisioner_that_may_end_in_order(host: str) -> None:
    service = HOSTS[host]
    assert service["command"][0] == "provisioner"
    assert service["command"][0] in COMMANDS
    assert service["healthcheck"]["test"][:3] == ["CMD", "gutscore-rs", "doctor"]
    assert int(service["stop_grace_period"].rstrip("s")) > 10
    assert service["depends_on"]["redis"] == {"condition": "service_healthy"}


def test_redis_keeps_its_data_and_is_not_published() -> None:
    redis = SERVICES["redis"]
    assert redis["image"].startswith("redis:7.")
    assert "appendonly yes" in redis["command"][2]
    assert "maxmemory-policy noeviction" in redis["command"][2]
    assert redis["volumes"] == ["redis:/data"]
    assert not any("ports" in service for service in SERVICES.values())


def is_healthy(folder: Path) -> bool:
    """What the very health check of the service says of a server of ours."""
    kind, check_ = SERVICES["redis"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    assert check_.startswith("printf "), "printf is built into the shell: the password is in no command line"
    assert "REDISCLI_AUTH" not in check_
    for there, here in (
        ("$$", "$"),
        ("/run/secrets/redis_password", f"{folder}/password"),
        ("redis-cli", f"redis-cli -s {folder}/s"),
    ):
        assert there in check_
        check_ = check_.replace(there, here)
    return subprocess.run(["sh", "-c", check_], timeout=10, check=False).returncode == 0


def test_the_command_of_redis_starts_one_that_wants_the_password(tmp_path: Path) -> None:
    """The very command of the service, with the container's paths, user and port replaced by ours."""
    server = program("redis")
    (tmp_path / "password").write_text("s3cret\n")
    script = SERVICES["redis"]["command"][2]
    for there, here in (
        ("$$", "$"),
        ("/run/secrets/redis_password", f"{tmp_path}/password"),
        ("/run/redis.conf", f"{tmp_path}/redis.conf"),
        ("echo 'appendonly yes'", f"printf 'appendonly yes\\nport 0\\nunixsocket {tmp_path}/s\\ndir {tmp_path}\\n'"),
        (f"chown redis {tmp_path}/redis.conf\n", ""),
        ("docker-entrypoint.sh redis-server", server),
    ):
        assert there in script
        script = script.replace(there, here)
    process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    cli = ["redis-cli", "-s", f"{tmp_path}/s", "ping"]
    env = dict(os.environ) | {"REDISCLI_AUTH": "s3cret"}
    try:
        wait_until(
            lambda: subprocess.run(cli, env=env, capture_output=True, check=False).stdout == b"PONG\n",
            what="the server answers to its password",
        )
        assert b"NOAUTH" in subprocess.run(cli, capture_output=True, check=False).stdout
        assert is_healthy(tmp_path)
        (tmp_path / "password").write_text("another\n")
        assert not is_healthy(tmp_path)
        # The shell became the server: a stop of the container reaches it.
        assert Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(server.encode())
        assert b"s3cret" not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    finally:
        process.terminate()
        assert process.wait(timeout=10) == 0


def test_no_secret_stands_in_an_environment_or_gets_into_the_image() -> None:
    assert "PASSWORD:" not in FILE.read_text()
    assert COMPOSE["secrets"]["redis_password"]["file"].endswith("/redis-password}")
    assert "redis-password" in (ROOT / ".gitignore").read_text().splitlines()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert "!redis-password" not in ignored


def test_the_image_gets_all_that_the_build_and_the_example_need() -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert {"gutscore_rs", "workers", "examples", "pyproject.toml", "README.md", "LICENSE"} <= set(kept)
    assert all((ROOT / name).exists() for name in kept)


def has_compose() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not has_compose(), reason="`docker compose` is not here; the schema was checked")
def test_docker_compose_reads_it() -> None:
    command = ["docker", "compose", "--file", str(FILE), "--profile", "client", "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
