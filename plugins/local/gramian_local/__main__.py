"""`python -m gramian_local` is `gramian`."""

from gramian_local.cli import main

main()
