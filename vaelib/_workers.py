"""What every worker process of this package does first."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator


def follow_parent() -> None:
    """End this worker when the process that started it ends, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to act on

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Keep Ctrl-C back inside: processes started here never hear it, this one does afterwards.

    Without it a worker that is interrupted while it is being started ends in a traceback.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
