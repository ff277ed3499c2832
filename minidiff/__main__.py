"""python -m minidiff: doctor, train, sample, evaluate."""

import signal
import sys

try:
    from minidiff.cli import main

    code = main()
except KeyboardInterrupt:  # while torch is imported
    code = 130
signal.signal(signal.SIGINT, signal.SIG_IGN)  # one Ctrl-C too many finds nothing left to stop
sys.exit(code)
