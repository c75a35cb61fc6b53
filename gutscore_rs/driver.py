"""The case's driver program: a function named in its configuration, called with the manager."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gutscore_rs.config import DriverSection
from gutscore_rs.errors import DriverError


def load_driver(driver: DriverSection) -> Callable[..., Any]:
    """Import the function ``package.module:name``.

    Its signature: ``main(manager, options, output) -> dict``; ``options`` is the free table ``[driver.options]``,
    ``output`` a folder for files, the result a JSON-able dict for the summary.

    Raises:
        DriverError: It cannot be imported or called.
    """
    module_name, _, name = driver.function.partition(":")
    folder = str(driver.path)
    if driver.path is not None and folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        function = getattr(importlib.import_module(module_name), name)
    except ImportError as error:
        raise DriverError(
            f"The driver {driver.function!r} cannot be imported: {error}. Looked in {folder}. "
            "Is what it needs installed (the double well: the extra `example`), and is [driver] path right?"
        ) from error
    except AttributeError as error:
        raise DriverError(f"The module {module_name!r} of the driver has no {name!r}.") from error
    if not callable(function):
        raise DriverError(f"The driver {driver.function!r} is no function but a {type(function).__name__}.")
    return function  # type: ignore[no-any-return]


def output_folder(folder: Path) -> Path:
    """The folder where the driver may write, made if need be.

    Raises:
        DriverError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DriverError(
            f"The output folder {folder} cannot be made: {error}. Choose another with --output."
        ) from error
    return folder
