"""Malformed overrides end in one sentence that names the key: no traceback, crash, hang or folder, whatever the value."""

from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from helpers.attempts import attempts
from helpers.malformed import Case, choices, malformed, roots

