"""A command that outlives its own work: the work runs in a fork, and if it is killed, this process decides what to do next.

So work that runs without Ray, in threads of the command, is as safe as in an actor: what kills its process does not end
the command. Only a process that still has a single thread can be forked like that. Knows nothing of what the work is.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_SI_KERNEL = 0x80  # asm-generic/siginfo.h: a terminal's Ctrl-C, which the kernel sends to the fork as well
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOCAL = b"l"

_to_guard: int | None = None


def stand_guard() -> str | None:
    """Fork: the work returns from here in the child, and this process waits for it.

    The child's exit code becomes this process's, and so does a signal that killed it; signals that end a command are
    passed on. Killing this process kills the child.

    Returns:
        None in the child, or where nothing was forked because this is one already, there are threads, or the system is not
        Linux. In this process, if the child was killed after `rely_on_guard`, the name of the signal: the caller is to go on
        without it.
    """
    global _to_guard
    if is_guarded() or sys.platform != "linux":
        return None
    if len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208 (a fork would copy locks that nobody opens)
        return None
    stops = {stop for stop in _STOPS if signal.getsignal(stop) != signal.SIG_IGN}  # nohup has SIGHUP ignored
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # an ignored one would take the child's exit code away
    waited = {*stops, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)  # or one could come before somebody listens
    ours, theirs = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    guard = os.getpid()
    child = os.fork()
    if not child:
        os.close(ours)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:  # it died before we could ask
            os._exit(128 + signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        _to_guard = theirs
        return None
    os.close(theirs)
    status, stopped = _wait(child, waited)
    relied = os.read(ours, 1) == _LOCAL
    os.close(ours)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if not os.WIFSIGNALED(status):
        os._exit(os.waitstatus_to_exitcode(status))
    if relied and not stopped:
        return signal.Signals(os.WTERMSIG(status)).name
    killer = os.WTERMSIG(status)
    if killer != signal.SIGKILL:
        signal.signal(killer, signal.SIG_DFL)
    os.kill(os.getpid(), killer)
    os._exit(128 + killer)


def is_guarded() -> bool:
    """Whether a process waits that goes on if this one is killed."""
    return _to_guard is not None


def rely_on_guard() -> None:
    """Say that work begins which may kill this process.

    Raises:
        AssertionError: if nobody stands guard.
    """
    assert _to_guard is not None, "nobody stands guard"
    os.write(_to_guard, _LOCAL)


def _wait(child: int, signals: set[signal.Signals]) -> tuple[int, bool]:
    """How the child ended, and whether somebody had asked it to."""
    stopped = False
    while True:
        got = signal.sigwaitinfo(signals)
        if got.si_signo == signal.SIGCHLD:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return status, stopped
        else:
            stopped = True
            if got.si_code != _SI_KERNEL:
                os.kill(child, got.si_signo)
