"""What only the notebooks need: figures, live figures, the check of exercises, the pre-flight.

`check`, `yours` and `expect` are here; `plot`, `widgets`, `doctor` and `hosts` are imported where they are used.
"""

from minidiff.course.exercises import check, expect, yours

__all__ = ["check", "expect", "yours"]
