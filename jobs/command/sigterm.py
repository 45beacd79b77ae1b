"""SIGTERM ends a command at once, whatever it waits for."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from functools import cache

import click

EXIT_SIGTERM = 128 + signal.SIGTERM
_ENDED = b"\0"  # no signal has this number


def exit_on_sigterm(within_s: float = 1.5) -> None:
    """Preemption and `ray job stop` send SIGTERM and kill soon after: leave at once, the next run continues.

    What is in flight is abandoned. A handler waits for native code in the main thread to return, which a request to a storage
    that does not answer does after minutes, so a thread of its own has the last word, until the command has ended.

    Args:
        within_s: what may be put away until then.
    """
    heard, told = os.pipe()
    os.set_blocking(told, False)

    def last_word() -> None:
        while (number := os.read(heard, 1)) != _ENDED:
            if number[0] == signal.SIGTERM:
                time.sleep(within_s)
                os._exit(EXIT_SIGTERM)
        os.close(heard)

    def end() -> None:
        signal.set_wakeup_fd(-1)
        os.write(told, _ENDED)
        os.close(told)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_SIGTERM))
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)  # written to as a signal comes, whatever the main thread does
    _leave_pipe_to_parent()
    threading.Thread(target=last_word, name="last word", daemon=True).start()
    if context := click.get_current_context(silent=True):
        context.call_on_close(end)


@cache
def _leave_pipe_to_parent() -> None:
    """A child that is forked shares the pipe, and its signals are not the command's."""
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
