"""What a person at a terminal hears when kernels are compiled for long."""

import contextlib
import sys
import threading
import time
from typing import Any

from numba.core import event


class Notice:
    """One line in a terminal, once in a process, when compiling has taken a second in all."""

    def __init__(self, patience: float = 1.0) -> None:
        self.patience = patience  # seconds of compiling still to be borne in silence
        self.said = False  # or not to be said
        self._depth = 0  # a kernel may call kernels, which are compiled meanwhile
        self._began = 0.0
        self._timer: threading.Timer | None = None

    def begin(self) -> None:
        """A kernel will be compiled; under Numba's lock, like `end`."""
        self._depth += 1
        if self._depth == 1 and not self.said and sys.stderr and sys.stderr.isatty():
            self._began = time.monotonic()
            self._timer = threading.Timer(self.patience, self._say)
            self._timer.daemon = True
            with contextlib.suppress(RuntimeError):  # no thread can be started
                self._timer.start()

    def end(self) -> None:
        """It has been."""
        self._depth -= 1
        if self._depth == 0 and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.patience = max(0.0, self.patience - (time.monotonic() - self._began))

    def _say(self) -> None:
        self.said = True
        print(
            "minigrad: compiling kernels, once on this machine (python -m minigrad.warmup "
            "compiles all ahead)",
            file=sys.stderr,
        )


class Compiling(event.Listener):
    """Tells a Notice when Numba begins and ends to compile a kernel, also where that raises.

    kind: of the cache that a kernel's dispatcher has, and others have not.
    """

    def __init__(self, notice: Notice, kind: type) -> None:
        self.notice, self._kind = notice, kind

    def on_start(self, event: Any) -> None:
        """Numba compiles; under its lock, like `on_end`."""
        if self._ours(event):
            self.notice.begin()

    def on_end(self, event: Any) -> None:
        """It has compiled, or raised."""
        if self._ours(event):
            self.notice.end()

    def _ours(self, event: Any) -> bool:
        return isinstance(getattr(event.data["dispatcher"], "_cache", None), self._kind)
