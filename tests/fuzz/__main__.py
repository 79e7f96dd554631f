"""``python -m tests.fuzz --seed 1 --minutes 60``."""

import sys

from .run import main

sys.exit(main())
