"""python -m studies.cli: the same as `prunesim`."""

from studies.cli.main import main

main()
