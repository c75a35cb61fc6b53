"""Every error that gutscore_rs raises, as one tree.

::

    GutscoreError (RuntimeError)
    |-- ConfigError (also ValueError)     the description itself is wrong; nothing was done
    |   |-- SerializationError            a JSON text or record that this version cannot read
    |   `-- DurationError                 a runtime that is no Slurm time and no number of seconds
    |-- StateFolderError                  the state folder, the access file or a socket path is unusable
    |   `-- AccessError                   the access file is missing, readable by others, or garbled
    |-- StoreError                        Redis cannot be used
    |   |-- StoreUnavailableError         no answer (transient)
    |   `-- StoreUnsuitableError          too old, a replica, read-only, wrong password
    |-- ServerError                       the embedded server did not start or stop
    |-- ResourceSetError                  something about one resource set
    |   |-- StateConflictError            its state does not allow this
    |   |-- RequestError                  it could not be requested, or its request failed
    |   |-- CapacityError                 the host cannot hold it
    |   `-- ReleaseError                  something survived its release
    |-- SlurmError                        a Slurm program did not do what it was asked
    |   |-- SlurmMissingError             it is not installed, or its module is not loaded
    |   |-- SlurmUnavailableError         no answer, or none that can be read (transient)
    |   `-- SlurmRefusedError             Slurm said no
    |-- NoProvisionerError                nobody is there to carry out the request
    |-- OperationRefusedError             an operation that is forged, stale, replayed or unknown
    |-- WorkersNotReadyError              the workers did not all come in time (also TimeoutError)
    |-- TaskError                         a task will not bring a result
    |   |-- WorkerLostError               the worker that ran it is gone
    |   |-- TaskFailedError               it failed with what cannot be brought here as it is
    |   |-- TaskTimeoutError              it ran beyond its timeout (also TimeoutError)
    |   |-- WalltimeError                 no resource set has the time that it takes
    |   |-- DependencyError               what it depends on failed
    |   `-- PayloadTooLargeError          its arguments or its result (also ValueError)
    |-- CallRefusedError                  a call or a result that is not signed for its job
    |-- RemoteTracebackError              carries the traceback of a task, as the cause of its exception
    |-- ExecutorBrokenError               no worker can come (also concurrent.futures.BrokenExecutor)
    `-- DriverError                       the case's driver program cannot be found or failed

Each message says what happened, to what, and what to do next. All derive from
:class:`RuntimeError`, because the predecessor's documented errors are RuntimeErrors.
"""

from __future__ import annotations

from concurrent.futures import BrokenExecutor


class GutscoreError(RuntimeError):
    """Base of all errors of this library.

    Attributes:
        transient: True when the same call may succeed later without any change.
    """

    transient: bool = False


class ConfigError(GutscoreError, ValueError):
    """The configuration or description is wrong; nothing was done."""


class SerializationError(ConfigError):
    """A serialized record that this version cannot read."""


class DurationError(ConfigError):
    """A runtime that is neither a number of seconds nor a Slurm time."""


class StateFolderError(GutscoreError):
    """The state folder cannot be used."""


class AccessError(StateFolderError):
    """The access file of a case is missing, too open, or garbled."""


class StoreError(GutscoreError):
    """Redis cannot be used."""


class StoreUnavailableError(StoreError):
    """Redis does not answer."""

    transient = True


class StoreUnsuitableError(StoreError):
    """Redis answers but cannot serve: too old, read-only, wrong password."""


class ServerError(GutscoreError):
    """The embedded server did not start or stop."""


class ResourceSetError(GutscoreError):
    """Something about one resource set."""


class StateConflictError(ResourceSetError):
    """The state of the resource set does not allow the operation."""


class RequestError(ResourceSetError):
    """The resource set could not be requested, or its request failed."""


class CapacityError(ResourceSetError):
    """The host cannot hold the workers that were asked for."""


class ReleaseError(ResourceSetError):
    """Something survived the release of a resource set."""


class SlurmError(GutscoreError):
    """A Slurm program did not do what it was asked."""


class SlurmMissingError(SlurmError):
    """A Slurm program is not there: not installed, or its module is not loaded."""


class SlurmUnavailableError(SlurmError):
    """Slurm's controller does not answer, or says what cannot be read."""

    transient = True


class SlurmRefusedError(SlurmError):
    """Slurm said no; the message has its words."""


class NoProvisionerError(GutscoreError):
    """No live provisioner serves the host or cluster that was named."""


class OperationRefusedError(GutscoreError):
    """An operation whose envelope is forged, stale, replayed or unknown."""


class WorkersNotReadyError(GutscoreError, TimeoutError):
    """The workers were not all active when the waiting time ended."""


class TaskError(GutscoreError):
    """A task will not bring a result."""


class WorkerLostError(TaskError):
    """The worker that ran a task is gone."""


class TaskFailedError(TaskError):
    """A task failed; its exception cannot be brought here as it is, its text is this one's."""


class TaskTimeoutError(TaskError, TimeoutError):
    """A task ran beyond its timeout."""


class WalltimeError(TaskError):
    """No resource set has the time left that a task says it takes."""


class DependencyError(TaskError):
    """What a task depends on failed; the cause is its exception."""


class PayloadTooLargeError(TaskError, ValueError):
    """A task's arguments or its result are more than may go through Redis."""


class CallRefusedError(GutscoreError):
    """A call or a result that was not made by a holder of the case's key for its job."""


class RemoteTracebackError(GutscoreError):
    """The traceback of a task on its worker; the cause of the exception that its future raises."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class ExecutorBrokenError(GutscoreError, BrokenExecutor):
    """No worker can come to run what was submitted."""


class DriverError(GutscoreError):
    """The driver program of a case cannot be found, or failed."""
