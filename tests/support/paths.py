"""Places that tests read from: the checkout, and the test material beside it where there is any."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
