"""The command line: the command that trains, and the `drolt` command."""
