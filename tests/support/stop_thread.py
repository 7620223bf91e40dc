"""Stops one thread of another process as a debugger does, for some seconds: stop_thread.py TID SECONDS.

Prints "stopped" when it is; lets it go on at the end, also when it is ended itself.
"""

import ctypes
import os
import signal
import sys
import time

SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17
WALL = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def ptrace(request, tid):
    if libc.ptrace(request, tid, None, None) == -1:
        error = ctypes.get_errno()
        sys.exit(f"ptrace {request:#x} of thread {tid}: {os.strerror(error)}")


tid, seconds = int(sys.argv[1]), float(sys.argv[2])
signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
ptrace(SEIZE, tid)
ptrace(INTERRUPT, tid)
os.waitpid(tid, WALL)
print("stopped", flush=True)
try:
    time.sleep(seconds)
finally:
    ptrace(DETACH, tid)
