"""``python -m atommem_gym`` is the command ``atommem``."""

import sys

from atommem_gym.cli import main

if __name__ == "__main__":
    sys.exit(main())
