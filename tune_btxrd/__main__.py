"""`python -m tune_btxrd`."""

import sys

from tune_btxrd.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
