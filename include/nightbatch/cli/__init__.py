"""The command line: the same use cases as the Dags, for a person at a terminal.

Exit codes: 0 done; 1 something needs a person (bad lines, jobs in doubt, an unreachable database); 2 wrong usage.
"""

from __future__ import annotations

from nightbatch.cli.app import app

__all__ = ["app"]
