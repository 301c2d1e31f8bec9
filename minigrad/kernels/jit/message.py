"""Print one line at a terminal when compiling kernels takes long."""

import contextlib
import sys
import threading
import time

from numba.core import event
from numba.core.event import Event


class Message:
    """A line in a terminal, printed once per process when compiling has taken long in total.

    patience: the seconds of compiling before the line is printed.
    """

    def __init__(self, patience: float = 2.0) -> None:
        self.patience = patience
        self.is_done = False  # True if the line has been printed, or is not wanted
        self._depth = 0  # compiling a kernel may compile the kernels that it calls
        self._began = 0.0
        self._timer: threading.Timer | None = None

    def begin(self) -> None:
        """Start the timer when a kernel begins to compile; Numba's lock is held, as in `end`."""
        self._depth += 1
        if self._depth == 1 and not self.is_done and sys.stderr and sys.stderr.isatty():
            self._began = time.monotonic()
            self._timer = threading.Timer(self.patience, self._print)
            self._timer.daemon = True
            with contextlib.suppress(RuntimeError):  # no thread can be started
                self._timer.start()

    def end(self) -> None:
        """Stop the timer when the outermost kernel has finished compiling."""
        self._depth -= 1
        if self._depth == 0 and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.patience = max(0.0, self.patience - (time.monotonic() - self._began))

    def _print(self) -> None:
        self.is_done = True
        print(
            "minigrad: compiling kernels and steps, once on this machine, since later runs load "
            "them from disk (python -m minigrad.warmup compiles all kernels ahead)",
            file=sys.stderr,
        )


class CompileListener(event.Listener):
    """A listener that calls a Message when Numba begins and ends to compile a kernel.

    cache: the type of cache that marks the dispatcher of a kernel.
    """

    def __init__(self, message: Message, cache: type) -> None:
        self.message, self._cache = message, cache

    def on_start(self, event: Event) -> None:
        """Begin the message; Numba calls this before it compiles, and holds its lock."""
        if self._is_kernel(event):
            self.message.begin()

    def on_end(self, event: Event) -> None:
        """End the message; Numba calls this after it has compiled a function, or failed to."""
        if self._is_kernel(event):
            self.message.end()

    def _is_kernel(self, event: Event) -> bool:
        return isinstance(getattr(event.data["dispatcher"], "_cache", None), self._cache)
