"""`python -m avse`: the same as the command `avse`."""

from avse.cli.app import command

command()
