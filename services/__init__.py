"""The services of the hub. Any number of copies of each may run; they meet only in Redis."""

import gc

# What a process makes while it loads its modules stays: looking through it again and again would slow down the start.
gc.set_threshold(50_000, 20, 50)
