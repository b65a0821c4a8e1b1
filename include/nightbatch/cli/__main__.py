"""Run the command line as `python -m nightbatch.cli`."""

from nightbatch.cli.app import app

app()
