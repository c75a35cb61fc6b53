"""Descriptions of sets are signed: whoever changes one without the key starts nothing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gutscore_rs.access import Access
from gutscore_rs.errors import OperationRefusedError
from gutscore_rs.signature import check_description, sign_description

ACCESS = Access.new("case", url="redis://localhost")
SPEC: dict[str, Any] = {"backend": "local", "nworkers": 2, "runtime": 60, "env": {"A": "1"}, "path": ["/a"]}


@dataclass(frozen=True)
class Record:
    wgroup_id: int = 3
    server: str = "node"
    nworkers: int = 2
    runtime: int = 60
    seal: str = sign_description(ACCESS, 3, "node", SPEC)
    spec: dict[str, Any] = field(default_factory=lambda: dict(SPEC))


def test_what_was_signed_is_accepted_whatever_the_order_of_its_keys() -> None:
    check_description(ACCESS, Record())
    check_description(ACCESS, Record(spec=dict(reversed(SPEC.items()))))


@pytest.mark.parametrize(
    "changed",
    [
        {"wgroup_id": 4},
        {"server": "elsewhere"},
        {"nworkers": 3},
        {"runtime": 61},
        {"seal": ""},
        {"seal": "é"},
        {"spec": SPEC | {"env": {"A": "2"}}},
        {"spec": SPEC | {"more": 1}},
        {"spec": {}},
        {"spec": SPEC | {"nworkers": 3}, "nworkers": 3},
    ],
)
def test_any_change_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(OperationRefusedError, match=r"resource set [34] is not signed with the key of case 'case'"):
        check_description(ACCESS, replace(Record(), **changed))


def test_another_key_and_another_case_are_refused() -> None:
    for other in (Access.new("case", url="redis://localhost"), replace(ACCESS, case="other")):
        with pytest.raises(OperationRefusedError):
            check_description(other, Record())
