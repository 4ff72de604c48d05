"""``python -m vxf``."""

import sys

from ._commands import main

sys.exit(main())
