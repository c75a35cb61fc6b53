"""Every Redis key of the project; this docstring is the data model.

Keys of a case share the hash tag ``{<case>}``, so a script touches one slot. ``<id>`` is the id of
a worker group (resource set). Scalars in hashes are plain strings, readable by ``redis-cli`` and any
dashboard; nested values (marked *msgpack*) are msgpack maps. All times are seconds of the *server's*
clock (Redis ``TIME``), as decimal text.

=============================================  ======  ====================================================
key (prefix ``gutscore:{<case>}``)             type    content; TTL; who writes it
=============================================  ======  ====================================================
``:resource_sets``                             ZSET    id -> requested at; no TTL (ids of ended sets leave
                                                       with their hash); client on request, launcher on
                                                       restore, provisioner on trimming
``:resource_set:<id>``                         HASH    the set, fields below; 7 days once ended; client,
                                                       provisioner and launcher, through scripts only
``:resource_set:<id>:live``                    ZSET    worker member -> end of its lease; empty when the
                                                       workers are gone, and with the hash of an ended set;
                                                       launcher (register, beat, leave)
``:resource_set:<id>:workers``                 HASH    member -> *msgpack* (host, pid, boot id, start ticks,
                                                       index, started at, rq name, Slurm ids); launcher
``:resource_set:<id>:states``                  HASH    member -> ``stopped`` or ``hung`` (absent: alive);
                                                       launcher
``:resource_set:<id>:launchers``               HASH    node -> ``<token>:<nonce>:`` + *msgpack* identity of
                                                       the launcher there; launcher (attach, detach)
``:resource_set:<id>:lock``                    STRING  JSON identity of the process that carries out an
                                                       operation on the set; 30 s, renewed; provisioner
``:submissions``                               ZSET    token of a submission that may have a job -> written at;
                                                       90 days; provisioner
``:submission:<token>``                        HASH    server, created at, submitted at (0: sbatch was not begun),
                                                       limit (s), job id (empty: not known), settled (1: it has no
                                                       job any more), size, ``set:<index>`` = id/generation; 90
                                                       days, 7 once it is settled; provisioner
``:tombstone:<id>``                            STRING  the set was forgotten on purpose; 1 day; ``forget``
``:provisioners``                              ZSET    provisioner member -> end of its lease; provisioner
``:provisioner_info``                          HASH    member -> *msgpack* (host, pid, serves, started at,
                                                       version); provisioner
``:lease:<name>``                              STRING  owner of a duty (``reaper``, ``reconciler``,
                                                       ``gather-<cluster>``, ``release-<cluster>``);
                                                       seconds; provisioner
``:nonce:<nonce>``                             STRING  job id that burnt an operation's nonce; until the
                                                       operation's expiry; provisioner
``:lost``                                      STREAM  each death: at, resource_set, member, host, pid,
                                                       reason, job; capped at 10,000; launcher, provisioner
``:executor:<id>``                             STRING  number of the newest batch of calls that an executor sent;
                                                       1 day, renewed; executor
``:executor:<id>:replies``                     STREAM  job id -> sealed result, or ``?`` (look at the job), of its
                                                       calls; an hour after the newest; worker, emptied by the
                                                       executor
``:events``                                    STREAM  each change of state: at, resource_set, generation,
                                                       from, state, why; capped at 10,000; every script
=============================================  ======  ====================================================

Fields of ``:resource_set:<id>``: ``schema`` (1), ``type`` (local, slurm), ``state``, ``version`` (one more at each
change of state), ``generation`` (one more at each request), ``nworkers``, ``runtime`` (s), ``daemonize`` (0, 1),
``host`` or ``cluster`` (who serves the request), ``token`` (of the newest launch), ``attempts``, ``launches``,
``requested_at``, ``expires_at`` (an unanswered request fails then), ``submitted_at``, ``started_at``, ``ended_at``,
``changed_at``, ``deadline``, ``next_try_at``, ``error``, ``pending_reason``, ``peak_active``, ``spec`` (*msgpack*),
``slurm_job`` and ``slurm_restarts`` (of the newest job that a launcher attached from), ``slurm_task`` (index within
the submission), ``missing_since`` (a look at Slurm's queue did not show its job), ``requester`` (*msgpack*: the
process whose end ends the set; empty: nobody's), ``seal`` (signature of the spec), ``request_nonce`` and
``change_nonce`` (of the newest request and change of state: a script that is sent twice works once). Its ``:live``,
``:workers``, ``:states`` and ``:launchers`` get the TTL of an ended set with it.

A worker *member* is ``<host>/<generation>/<index>/<pid>/<start ticks>/<boot id, 8 hex>/<nonce, 8 hex>``;
it is never used for two processes.

What all cases of a user share on one Redis, about one Slurm cluster (prefix ``gutscore:{slurm/<cluster>/<user>}``):
``:poll`` (STRING, *msgpack*: the newest look at that user's jobs: at, error, rows; an hour; provisioner) and
``:poller`` (STRING: who looks now; seconds; provisioner).

RQ's own keys (prefix ``rq``, see rq 3.0's source) that our scripts touch are made by :class:`RqKeys`. Scripts on them
declare the entry keys and derive those of jobs and executions: plain server or Sentinel, no Cluster. Fields that we
add to RQ's hashes: ``gs_claim`` and ``gs_claimed`` on a worker (the newest claim's number and what it returned),
``gs_time`` on a job (seconds that it takes, as its enqueuer said) and ``gs_reply`` (the stream where its result is
awaited), ``gs_done`` and ``gs_returned`` (the execution that ended it, that was put back), ``gs_deliveries`` (how
often it came back from a lost host).
"""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "gutscore"


@dataclass(frozen=True, slots=True)
class CaseKeys:
    """Keys of one case."""

    case: str

    @property
    def root(self) -> str:
        return f"{PREFIX}:{{{self.case}}}"

    @property
    def resource_sets(self) -> str:
        return f"{self.root}:resource_sets"

    def resource_set(self, wgroup_id: int) -> str:
        return f"{self.root}:resource_set:{wgroup_id}"

    def live(self, wgroup_id: int) -> str:
        return f"{self.root}:resource_set:{wgroup_id}:live"

    def workers(self, wgroup_id: int) -> str:
        return f"{self.root}:resource_set:{wgroup_id}:workers"

    def states(self, wgroup_id: int) -> str:
        return f"{self.root}:resource_set:{wgroup_id}:states"

    def launchers(self, wgroup_id: int) -> str:
        return f"{self.root}:resource_set:{wgroup_id}:launchers"

    def executor(self, executor_id: str) -> str:
        return f"{self.root}:executor:{executor_id}"

    def replies(self, executor_id: str) -> str:
        return f"{self.root}:executor:{executor_id}:replies"

    def lock(self, wgroup_id: int) -> str:
        return f"{self.root}:resource_set:{wgroup_id}:lock"

    def tombstone(self, wgroup_id: int) -> str:
        return f"{self.root}:tombstone:{wgroup_id}"

    @property
    def submissions(self) -> str:
        return f"{self.root}:submissions"

    def submission(self, token: str) -> str:
        return f"{self.root}:submission:{token}"

    @property
    def provisioners(self) -> str:
        return f"{self.root}:provisioners"

    @property
    def provisioner_info(self) -> str:
        return f"{self.root}:provisioner_info"

    def lease(self, duty: str) -> str:
        return f"{self.root}:lease:{duty}"

    def nonce(self, nonce: str) -> str:
        return f"{self.root}:nonce:{nonce}"

    @property
    def lost(self) -> str:
        return f"{self.root}:lost"

    @property
    def events(self) -> str:
        return f"{self.root}:events"


@dataclass(frozen=True, slots=True)
class PollKeys:
    """Keys about one user's jobs on one Slurm cluster; no case has such a tag."""

    cluster: str
    user: str

    @property
    def root(self) -> str:
        return f"{PREFIX}:{{slurm/{self.cluster}/{self.user}}}"

    @property
    def poll(self) -> str:
        return f"{self.root}:poll"

    @property
    def poller(self) -> str:
        return f"{self.root}:poller"


@dataclass(frozen=True, slots=True)
class RqKeys:
    """RQ 3's keys, as far as our scripts touch them."""

    prefix: str = "rq"

    @property
    def queues(self) -> str:
        return f"{self.prefix}:queues"

    @property
    def suspended(self) -> str:
        return f"{self.prefix}:suspended"

    @property
    def workers(self) -> str:
        return f"{self.prefix}:workers"

    def queue_workers(self, queue: str) -> str:
        return f"{self.prefix}:workers:{queue}"

    def queue(self, queue: str) -> str:
        return f"{self.prefix}:queue:{queue}"

    def started(self, queue: str) -> str:
        """RQ's StartedJobRegistry: ``<job>:<execution>`` -> crash deadline."""
        return f"{self.prefix}:wip:{queue}"

    def finished(self, queue: str) -> str:
        return f"{self.prefix}:finished:{queue}"

    def failed(self, queue: str) -> str:
        return f"{self.prefix}:failed:{queue}"

    def worker(self, name: str) -> str:
        return f"{self.prefix}:worker:{name}"

    def worker_executions(self, name: str) -> str:
        """The owner index: what a worker has claimed and not finished."""
        return f"{self.prefix}:worker:{name}:executions"

    def job(self, job_id: str) -> str:
        return f"{self.prefix}:job:{job_id}"

    def execution(self, job_id: str, execution: str) -> str:
        return f"{self.prefix}:execution:{job_id}:{execution}"

    def executions(self, job_id: str) -> str:
        return f"{self.prefix}:executions:{job_id}"

    def results(self, job_id: str) -> str:
        return f"{self.prefix}:results:{job_id}"


def task_queue(case: str, name: str) -> str:
    """Full RQ name of a case's task queue."""
    return f"{case}:{name}"


def operations_queue(case: str, server: str) -> str:
    """Full RQ name of the queue of operations for ``server``, a host or a cluster.

    ``ops`` is no legal name of a task queue, so the two cannot meet.
    """
    return f"{case}:ops:{server}"


CLUSTER_PREFIX = "slurm-"


def allocation_server(job_id: str) -> str:
    """What a Slurm job is called among the servers of requests, for a provisioner that runs in it."""
    return f"{CLUSTER_PREFIX}job:{job_id}"


def is_cluster(server: str) -> bool:
    """Whether a server of requests is a Slurm cluster, or a job on one; a host of such a name does no harm."""
    return server.startswith(CLUSTER_PREFIX)


def cluster_server(cluster: str) -> str:
    """What a Slurm cluster is called among the servers of requests."""
    return f"{CLUSTER_PREFIX}{cluster}"
