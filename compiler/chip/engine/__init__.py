"""The event-driven engine: whole networks on whole samples, in C++ or in numba."""
