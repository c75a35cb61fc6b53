from __future__ import annotations

import re
from pathlib import Path

from gutscore_rs.config import LocalDescription, SlurmDescription, sections

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
FIRST_COLUMN = re.findall(
    r"`([a-z_.]+)`", " ".join(line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `"))
)


def keys():
    models = {
        "case": sections.CaseSection,
        "redis": sections.RedisSection,
        "tasks": sections.TasksSection,
        "resource": sections.ResourceSection,
        "manager": sections.ManagerSection,
        "slurm": sections.SlurmSection,
        "driver": sections.DriverSection,
    }
    for section, model in models.items():
        yield from (f"{section}.{name}" for name in model.model_fields)
    yield from {*LocalDescription.model_fields, *SlurmDescription.model_fields} - {"backend"}


def test_the_page_documents_every_key_and_no_other():
    assert sorted(FIRST_COLUMN) == sorted(keys())
