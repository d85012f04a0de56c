"""``python -m atommem_gym`` is the command ``atommem``."""

import sys

from atommem_gym.cli import main

sys.exit(main())
