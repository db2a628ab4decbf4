"""What every worker process of this package does first."""

import multiprocessing
import os
import signal
import threading


def follow_parent() -> None:
    """End this worker when the process that started it ends, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to act on

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
