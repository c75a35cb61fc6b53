"""docs/redis-keys.md and the docstring of keys.py are one data model: neither changes without the other."""

from __future__ import annotations

import re
from pathlib import Path

from gutscore_rs.store import keys
from gutscore_rs.store.records import ResourceSetRecord, State, encode_resource_set

PAGE = (Path(__file__).parents[2] / "docs" / "redis-keys.md").read_text()
DOCSTRING = keys.__doc__ or ""
TYPES = "ZSET|HASH|STRING|STREAM"


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def names(text: str, pattern: str) -> list[str]:
    return sorted(re.findall(pattern, text, re.MULTILINE))


def test_the_page_has_the_keys_of_the_docstring_and_their_types() -> None:
    in_the_page = re.findall(rf"^\| `(:[^`]+)` \| ({TYPES}) \|", PAGE, re.MULTILINE)
    in_the_docstring = re.findall(rf"^``(:[^`]+)`` +({TYPES}) ", DOCSTRING, re.MULTILINE)
    assert in_the_page == in_the_docstring
    assert len(in_the_page) > 10


def test_every_key_that_the_code_makes_is_in_the_page() -> None:
    case = keys.CaseKeys("CASE")
    shown = {"wgroup_id": "<id>", "duty": "<name>", "nonce": "<nonce>", "token": "<token>", "executor_id": "<id>"}
    made = set()
    for name, member in vars(keys.CaseKeys).items():
        if isinstance(member, property) and name != "root":
            made.add(member.fget(case))
        elif callable(member) and not name.startswith("_"):
            (argument,) = (a for a in member.__annotations__ if a != "return")
            made.add(member(case, shown[argument]))
    documented = {f"{case.root}{key}" for key in names(PAGE, rf"^\| `(:[^`]+)` \| (?:{TYPES}) \|")}
    assert made == documented


def test_the_page_has_the_fields_of_a_set_that_the_docstring_has() -> None:
    paragraph = DOCSTRING.split("Fields of ``:resource_set:<id>``:")[1].split("\n\n")[0].split("Its ``:live``")[0]
    assert names(section("Fields of a resource set"), r"^\| `(\w+)` \|") == names(paragraph, r"``([a-z_]+)``")


def test_every_field_that_a_record_writes_is_in_the_page() -> None:
    record = ResourceSetRecord(0, "local", State.ACTIVE, 1, 1, 1, 1, False, "here")
    times = {name: 1.0 for name in ResourceSetRecord.__slots__ if name.endswith("_at") or name == "deadline"}
    written = set()
    for kind in ("local", "slurm"):
        full = ResourceSetRecord(0, kind, State.ACTIVE, 1, 1, 1, 1, False, "here", **times)  # type: ignore[arg-type]
        written |= set(encode_resource_set(full)) | set(encode_resource_set(record))
    assert written <= set(names(section("Fields of a resource set"), r"^\| `(\w+)` \|"))


def test_the_page_has_what_we_add_to_hashes_of_rq() -> None:
    scripts = Path(keys.__file__).parent.glob("**/*")
    used = {
        name for file in scripts if file.suffix in {".py", ".lua"} for name in re.findall(r"gs_\w+", file.read_text())
    }
    assert set(names(section("RQ's keys"), r"`(gs_\w+)`")) == set(re.findall(r"gs_\w+", DOCSTRING)) == used
