"""Operations on resource sets, as RQ jobs that only provisioners carry out."""

from __future__ import annotations

from gutscore_rs.errors import OperationRefusedError


def carry_out(_sealed: bytes) -> None:
    """The function name that operation jobs carry; a stock RQ worker that takes one fails it here.

    Raises:
        OperationRefusedError: Always.
    """
    raise OperationRefusedError("Operations are carried out by a provisioner: start `gutscore-rs provisioner`.")
