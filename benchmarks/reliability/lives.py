"""Starts lives, and kills them at a moment that does not depend on what they are doing."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


class Life:
    """A process that trains. It stays known to the system until `status` is asked for, so no signal goes astray."""

    def __init__(self, pid: int, reap: Any) -> None:
        self.pid, self._reap = pid, reap
        self._handle = os.pidfd_open(pid)

    def wait(self, seconds: float | None = None) -> bool:
        """Return whether it has ended, after waiting for that so long; None: until it has."""
        return bool(select.select([self._handle], [], [], seconds)[0])

    def send(self, number: int) -> None:
        """Send a signal."""
        signal.pidfd_send_signal(self._handle, number)

    def stop(self) -> None:
        """Have it stand still, and return when it does, or has ended."""
        self.send(signal.SIGSTOP)
        while not self.wait(0.0002) and Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            continue

    def status(self) -> int:
        """Wait for its end and return its exit status, or minus the signal that killed it."""
        self.wait()
        os.close(self._handle)
        return self._reap()


class Nursery:
    """Where lives begin: forked from a process that did nothing but import, or each in a new interpreter."""

    def __init__(self, module: str = "reliability.life", python: str = sys.executable) -> None:
        self._module, self._python = module, python
        paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._environment = os.environ | ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(paths)}
        self._server = self._open([python, "-m", "reliability.nursery", module], stdin=subprocess.PIPE)
        self._answer()  # that it has imported everything

    def start(self, order: dict[str, Any], fresh: bool = False) -> Life:
        """Begin a life. fresh: in a new interpreter, that has everything to import."""
        if not fresh:
            self._ask(json.dumps(order))
            return Life(int(self._answer()), self._reap)
        with Path(order["log"]).open("ab") as log:
            command = [self._python, "-m", self._module, json.dumps(order)]
            process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        return Life(process.pid, process.wait)

    def _open(self, command: list[str], **pipes: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(command, env=self._environment, stdout=subprocess.PIPE, text=True, **pipes)

    def _reap(self) -> int:
        self._ask("reap")
        return int(self._answer())

    def _ask(self, line: str) -> None:
        assert self._server.stdin is not None
        self._server.stdin.write(line + "\n")
        self._server.stdin.flush()

    def _answer(self) -> str:
        assert self._server.stdout is not None
        answer = self._server.stdout.readline()
        if not answer:
            raise RuntimeError(f"no life can be started: {self._python} -m reliability.nursery {self._module} failed")
        return answer.strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.__exit__(kind, error, at)
