"""Settings that must be made before anything imports Ray, which reads them once."""

import os

os.environ.setdefault("RAY_AUTH_MODE", "token")  # as a local Ray has it by default, with a token of the tests' own
os.environ.setdefault("RAY_AUTH_TOKEN", "c0ffee" * 10)
