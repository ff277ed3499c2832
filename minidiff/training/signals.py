"""Signals that stop a training between two steps, after what was learned is saved.

Ctrl-C, SIGTERM and SIGHUP wait until a step or a save has ended. While the caller's code runs, between two steps, they
act at once. Either way `save` runs first, shielded from further signals; then the handler that was there before has its
turn (KeyboardInterrupt for Ctrl-C), or the process exits with code 128 + signal number.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class SignalGuard:
    """A context in which signals stop a training cleanly. Only the main thread receives signals: elsewhere it idles."""

    def __init__(self, save: Callable[[], None] = lambda: None):
        self.save = save
        self.pending: int | None = None  # the signal that waits
        self.shields = 0  # how many `deferred` blocks are open
        self.open = False  # our handlers are installed
        self.stopped = False  # a signal has acted, and `save` has run
        self.before: dict[int, Callable | int] = {}  # the handlers that were there

    def __enter__(self) -> "SignalGuard":
        self.open = threading.current_thread() is threading.main_thread()
        for number in SIGNALS if self.open else ():
            handler = signal.getsignal(number)
            if handler not in (signal.SIG_IGN, None):  # nohup and background jobs ignore some on purpose
                self.before[number] = handler
                signal.signal(number, self._receive)
        return self

    def __exit__(self, *_) -> None:
        if self.open:
            self.open = False
            for number, handler in self.before.items():
                if signal.getsignal(number) == self._receive:  # else a context entered later has it
                    signal.signal(number, handler)
            if self.pending is not None and not self.stopped:  # it came in a block that failed
                self._pass_on(self.pending)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Hold signals back until the block has ended, however often they come."""
        self.shields += 1
        try:
            yield
        finally:
            self.shields -= 1
        if self.pending is not None and not self.shields:
            self._stop(self.pending)

    def _receive(self, number: int, _frame) -> None:
        if not self.open:
            self._pass_on(number)
        elif self.shields:
            self.pending = self.pending or number
        else:
            self._stop(number)

    def _stop(self, number: int) -> None:
        self.stopped = True
        self.shields += 1
        try:
            self.save()
        finally:
            self.__exit__()
            self.shields, self.pending = self.shields - 1, None
        self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        handler = self.before[number]
        if not callable(handler):
            raise SystemExit(128 + number)
        handler(number, None)


@contextlib.contextmanager
def first_signal_only() -> Iterator[None]:
    """Let the first Ctrl-C, SIGTERM or SIGHUP end the block by an exception, and ignore those after it."""
    stopped = False

    def stop(number: int, _frame) -> None:
        nonlocal stopped
        if stopped:
            return
        stopped = True
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {n: h for n in SIGNALS if (h := signal.getsignal(n)) not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
