"""The steps of a case's life, in order and by who takes them: what faults are let happen at.

``tests/system/test_step_list.py`` records a life and compares: a step that is not here fails it. ``#2`` is the second
one of a process. Steps that merely look, again and again, stand here once.
"""

from __future__ import annotations

# From the doorbell to the last of the workers.
REQUEST = {
    "provisioner": ("exchange", "BLMOVE rq:queue"),
    "operation": (
        "TIME",  # admitted?
        "SET nonce",
        "HGETALL resource_set",
        "lease",  # the lock of the set
        "TIME#2",
        "transition",  # submitting
        "HGETALL resource_set#2",
        # here the launcher is started
        "HGETALL resource_set#3",  # until it is attached
        "release_lease",
        "exchange",
    ),
    "launcher": (
        "attach",
        "beat",
        "register",
        "HSET rq:worker",
        "EXPIRE rq:worker",
        "SADD rq:workers",
        "BLMOVE rq:queue",
    ),
}

RELEASE = {
    "provisioner": ("exchange", "BLMOVE rq:queue"),
    "operation": (
        "TIME",
        "SET nonce",
        "HGETALL resource_set",
        "lease",
        "HGETALL resource_set:launchers",
        # here the launcher gets SIGTERM and is waited for
        "lease#2",
        "HGETALL resource_set:workers",
        "detach",
        "count",
        "HGETALL resource_set:launchers#2",
        "transition",  # released
        "HGETALL resource_set#2",
        "release_lease",
        "exchange",
    ),
    "launcher": ("leave", "SREM rq:workers", "HSET rq:worker", "EXPIRE rq:worker", "leave#2", "detach"),
}

# A job that ends well, one that raises, one that kills its worker.
JOB = {
    "launcher": ("BLMOVE rq:queue", "leave", "SREM rq:workers", "HSET rq:worker", "EXPIRE rq:worker"),
    "worker": (
        "PING",  # its first wake-up
        "exchange",
        "exchange#2",
        # from here: RQ's code books what raised
        "ZSCORE rq:wip",
        "HGETALL rq:job",
        "HSET rq:job",
        "EXEC HSET rq:job",
        "WATCH rq:job",
        "SMEMBERS rq:job",
        "UNWATCH",
        "ZSCORE rq:wip#2",
    ),
    "recovery": (
        "EXEC HSET rq:worker",
        "SMEMBERS rq:worker:executions",
        "HGET rq:worker",
        "HGET rq:job",
        "ZSCORE rq:wip",
        "SISMEMBER rq:worker:executions",
        "HGETALL rq:job",
        "EXEC HSET rq:job",
        "WATCH rq:job",
        "SMEMBERS rq:job",
        "UNWATCH",
        "HGET rq:job#2",
        "SMEMBERS rq:worker:executions#2",
        "HGET rq:worker#2",
        "HGET rq:job#3",
        "ZSCORE rq:wip#2",
        "SISMEMBER rq:worker:executions#2",
    ),
}

# What provisioners do every so often, and what a launcher does besides: may happen at any moment of a life.
PERIODIC = {
    "provisioner": (
        "provisioner_beat",
        "lease",
        "INFO server",
        "ZRANGE resource_sets",
        "HGETALL resource_set",
        "HGETALL resource_set:launchers",
        "GET resource_set:lock",
        "PTTL resource_set:lock",
        "TIME",
        "ZRANGEBYSCORE rq:scheduled",
        "EXISTS resource_set",
        "ZREMRANGEBYSCORE rq:finished",
        "ZREMRANGEBYSCORE rq:failed",
        # it rings again for what nobody answered
        "LRANGE rq:queue",
        "LREM rq:queue",
        "EXEC HSET rq:job",
        "EXEC SADD rq:queues",
        # its registration at RQ, a moment after it serves, and each minute
        "HEXISTS rq:worker",
        "HSET rq:worker",
        "EXPIRE rq:worker",
        "SADD rq:workers",
    ),
    "launcher": ("beat",),
    # after a job it waits a moment for the next
    "worker": ("BLMOVE rq:queue",),
}

LOOKS = (
    "GET",
    "HGETALL",
    "HEXISTS",
    "SMEMBERS",
    "TIME",
    "ZRANGE",
    "ZRANGEBYSCORE",
    "ZSCORE",
    "INFO",
    "BLMOVE",
    "count",
)


def only_looks(step: str) -> bool:
    """Whether a step changes nothing: to die before it or after it is the same."""
    return step.split("#", maxsplit=1)[0].split(" ", maxsplit=1)[0] in LOOKS
