"""What every worker process does first."""

import multiprocessing
import os
import signal
import threading


def start_as_worker() -> None:
    """Ctrl-C ends this process without a word, and the end of the process that started it ends it too.

    A pool's workers otherwise wait for ever where the process that feeds them is killed.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
