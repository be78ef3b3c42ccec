"""Trains one run, `python train.py [group=choice] [key=value]`, or with -m a sweep; conf/ lists what can be set."""

import sys

from drolt_pl.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
