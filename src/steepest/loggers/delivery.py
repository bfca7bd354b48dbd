"""The thread that brings the rows of one run to one logger."""

import threading
from collections.abc import Iterable
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from steepest.events import before, is_evaluation, rows
from steepest.loggers.logger import Logger
from steepest.loggers.memory import Memory
from steepest.loggers.queue import MOST, Alert, Queue
from steepest.loggers.troubles import Troubles, words

PAUSE = 0.2
"""Seconds between two looks into the queue."""

RECORD = 1.0
"""Seconds between two flushes, each with a note of how far the logger is."""

PATIENCE = 25
"""How many pauses it waits for a row that must come into the event file."""


class Delivery:
    """Opens the logger, brings it what comes, closes it; all calls of the logger but `take` are made by this thread."""

    def __init__(self, logger: Logger, memory: Memory, events: Path | None, config: dict[str, Any]) -> None:
        self.queue = Queue(filed=events is not None)
        self.troubles = Troubles(logger.name)
        self.opened = threading.Event()
        self._logger, self._memory, self._events, self._config = logger, memory, events, config
        self._thread = threading.Thread(target=self._run, name=f"steepest-{logger.name}", daemon=True)
        self._closing, self._given_up = threading.Event(), False
        self._begin, self._status = 0, "finished"
        self._unrecorded, self._recorded = False, monotonic()
        self._asked = True

    def begin(self, step: int) -> None:
        """Start; step is the first that this process will report."""
        self._begin = step
        self._thread.start()

    def end(self, status: str) -> None:
        """Have everything delivered and the logger closed; `join` waits for it."""
        self._status = status
        self._closing.set()

    def join(self, seconds: float) -> None:
        """Wait so long, then give up what has not been delivered."""
        if self._thread.ident is None:
            return
        self._thread.join(max(0.0, seconds))
        if self._thread.is_alive() and not self.troubles.out:
            self._given_up = True
            self.troubles.say(self._unfinished())
        if self.queue.lost:
            self.troubles.say(f"missed {self.queue.lost} rows, as more than {MOST} waited.")

    def _unfinished(self) -> str:
        if not len(self.queue):
            return "was given all rows, but did not say in time at the end that it has them."
        again = "" if self._events is None else "; they are in events.jsonl, and a resumed run sends them"
        return f"is too slow: {len(self.queue)} rows did not reach it before the end{again}."

    def _run(self) -> None:
        try:
            self._open()
        except BaseException as error:
            self.troubles.out = True
            self.troubles.say(f"could not be opened, so the run goes on without it: {words(error)}")
        finally:
            self.opened.set()
        closing = False
        while not closing and not self.troubles.out:
            self.troubles.busy = None
            closing = self._closing.wait(PAUSE)
            self._deliver(iter(self.queue.get, None))
            if self.queue.left:
                self._catch_up()
            self._flush_if(closing or monotonic() - self._recorded > RECORD)
        self._close()

    def _open(self) -> None:
        """Open the logger where it was left, and bring it the rows of earlier steps that it does not have."""
        self.troubles.busy = monotonic()
        self._memory.recall(self._begin)
        self._memory.key, told = self._logger.start(self._memory.key, self._config)
        self._asked = told is not None
        if told is not None:
            self._memory.last = dict(told)
        self._memory.record()
        self.opened.set()
        if self._begin > 0 and self._events is not None:
            self._deliver(before(rows(self._events), self._begin))

    def _catch_up(self) -> None:
        """Deliver from the event file what the queue had no room for."""
        last = self.queue.resume()
        assert last is not None
        assert self._events is not None
        kept = rows(self._events)
        for _ in range(PATIENCE):
            if _holds(kept, last) or self._given_up:
                break
            sleep(PAUSE)  # the loop may be about to write it
            kept = rows(self._events)
        else:
            self.troubles.say(f"may miss rows up to step {last['step']}: they did not fit and are not in events.jsonl.")
        self._deliver(kept)

    def _deliver(self, items: Iterable[dict[str, Any] | Alert]) -> None:
        for item in items:
            if self.troubles.out or self._given_up:
                return
            self.troubles.busy = monotonic()
            try:
                if isinstance(item, Alert):
                    self._logger.alert(*item)
                    self._unrecorded = True
                else:
                    self._log(item)
                self.troubles.worked("log")
            except BaseException as error:
                step = item.step if isinstance(item, Alert) else item["step"]
                self.troubles.failed("log", error, f"at step {step}")
            self._flush_if(monotonic() - self._recorded > RECORD)

    def _log(self, row: dict[str, Any]) -> None:
        """Bring the logger what of the row it does not have."""
        step, last = int(row["step"]), self._memory.last
        new = {name: value for name, value in self._logger.take(row).items() if step > last.get(name, -1)}
        if not new:
            return
        self._logger.log(step, new)
        last.update(dict.fromkeys(new, step))
        self._unrecorded = True
        if not self._asked:
            self._memory.record()

    def _flush_if(self, due: bool) -> None:
        if not due or not self._unrecorded or self.troubles.out:
            return
        self._recorded = self.troubles.busy = monotonic()
        try:
            self._logger.flush()
            self._memory.record()
            self._unrecorded = False
            self.troubles.worked("flush")
        except BaseException as error:
            self.troubles.failed("flush", error, "when its rows were to be written")

    def _close(self) -> None:
        self.troubles.busy = monotonic()
        try:
            self._logger.close(self._status)
            if not self.troubles.out:
                self._memory.record(self._status)
        except BaseException as error:
            if not self.troubles.out:
                self.troubles.say(f"could not be closed: {words(error)}")
        self.troubles.total()
        self.troubles.busy = None


def _holds(kept: list[dict[str, Any]], row: dict[str, Any]) -> bool:
    """Say whether the row is among those that were read back."""
    key = (row["step"], is_evaluation(row))
    return any((each["step"], is_evaluation(each)) == key for each in reversed(kept))
