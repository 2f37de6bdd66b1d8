"""`python -m avse`: the same as the command `avse`."""

from avse.cli import main

main()
