"""python -m minidiff: doctor, train, sample, evaluate."""

import sys

from minidiff.cli import main

sys.exit(main())
