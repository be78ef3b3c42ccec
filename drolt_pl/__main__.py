"""`python -m drolt_pl`: the `drolt` command."""

from drolt_pl.cli.app import main

main()
