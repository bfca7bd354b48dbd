"""Ctrl-C, SIGTERM and a lost terminal, which let the current step end."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Interrupted = Callable[[], str | None]
"""Tells whether a signal has come: None, "interrupted" (Ctrl-C), or "terminated" (asked to end by another program)."""

_STATUS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "terminated"}


@contextmanager
def interruption(first: Callable[[], bool] = lambda: False) -> Iterator[Interrupted]:
    """Yield a function that tells whether the run shall end; a second signal ends the process at once.

    first: asked at a signal; where it returns true, it has taken the signal as something less than the end, and the
    next one is the first. A lost terminal asks for nothing less.

    A signal that is ignored already (nohup) stays so. Outside the main thread, where Python allows no handler, all
    signals do what they did.
    """
    status: str | None = None

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal status
        if status is None and signal.Signals(number).name != "SIGHUP" and first():
            return
        if status is None:
            status = _STATUS[signal.Signals(number).name]
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            sys.exit(128 + number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in _STATUS:
            number = getattr(signal, name, None)  # Windows has not all of them
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, remember)
    try:
        yield lambda: status
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
