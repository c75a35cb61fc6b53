"""Names of Slurm jobs: by its name a job is found again, and known as ours (rulings 17, 18)."""

from __future__ import annotations

import hashlib
import secrets

# All of them begin with this, whatever the case.
PREFIX = "gsrs-"


def job_prefix(case: str, key_id: str) -> str:
    """What the names of all jobs of one case begin with; ``key_id`` tells two cases of one name apart."""
    return f"{PREFIX}{hashlib.blake2b(f'{key_id}/{case}'.encode(), digest_size=4).hexdigest()}-"


def new_token(case: str, key_id: str) -> str:
    """A fresh name for a submission and its job."""
    return job_prefix(case, key_id) + secrets.token_hex(6)
