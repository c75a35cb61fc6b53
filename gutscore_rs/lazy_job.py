"""An RQ job that is read from Redis when somebody looks at it: most never are."""

from __future__ import annotations

from typing import Any

import redis
from rq.exceptions import NoSuchJobError
from rq.job import Job


class LazyJob(Job):
    """A job by its id.

    Args:
        job_id: The job.
        connection: Where it is read from.
    """

    def __init__(self, job_id: str, connection: redis.Redis) -> None:
        self._id = job_id
        self.connection = connection

    def __getattr__(self, name: str) -> Any:
        """An attribute that RQ's jobs have and this one has not read yet.

        Raises:
            NoSuchJobError: The job is gone.
        """
        if "_read" in self.__dict__ or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        job_id, connection = self.__dict__["_id"], self.__dict__["connection"]
        fields = connection.hgetall(f"{self.redis_job_namespace_prefix}{job_id}")
        if not fields:
            raise NoSuchJobError(f"No such job: {job_id}")
        self._read = True
        super().__init__(job_id, connection=connection)
        self.restore(fields)
        return getattr(self, name)
