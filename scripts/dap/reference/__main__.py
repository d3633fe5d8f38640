"""``python -m dap.reference [--check]``."""

import sys

from dap.reference import main

sys.exit(main())
