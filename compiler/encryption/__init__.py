"""SnnGraph -> trained SnnGraph: spike-based training with lava-dl SLAYER blocks.

Importing a module of this package but this one imports SLAYER, which takes seconds.
"""
