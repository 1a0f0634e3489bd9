"""Settings of every test."""

import os

# The tensors of the tests are so small that a second thread only waits for the first: with two
# threads, and anything else at work on the machine, some tests take ten times as long. Numba
# sets the threads of OpenMP, and with them torch's, to its own number at its first loop.
for _library in ("OMP", "NUMBA"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")
