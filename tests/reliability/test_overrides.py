"""Malformed overrides end in one sentence that names the key: no traceback, crash, hang or folder is left."""
