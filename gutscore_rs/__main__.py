"""``python -m gutscore_rs`` is the command line."""

from __future__ import annotations

import sys

from gutscore_rs.cli import main

sys.exit(main())
