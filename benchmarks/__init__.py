"""Side-by-side speed measurements that write JSON. `python benchmarks/run.py --help` says more."""
