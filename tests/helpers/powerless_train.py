"""`python train.py`, without the powers of root: modes of files and folders hold for it."""

import ctypes
import sys

from drolt_pl.cli.train import main

CAPABILITIES_3 = 0x20080522  # the version of Linux's capset that sets 64 of them

if __name__ == "__main__":
    this_process, none = (ctypes.c_uint32 * 2)(CAPABILITIES_3, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capset(this_process, none) == 0
    sys.exit(main())
