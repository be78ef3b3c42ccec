"""The command line: `train.py`'s surroundings and the small `drolt` command."""
