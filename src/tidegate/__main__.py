"""`python -m tidegate`, the same as `tidegate`."""

from tidegate.cli.main import main

main()
