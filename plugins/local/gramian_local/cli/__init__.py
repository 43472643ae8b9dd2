"""The command line. Each command imports what it needs when it runs, so that `--help` is quick."""

from gramian_local.cli.main import main

__all__ = ["main"]
