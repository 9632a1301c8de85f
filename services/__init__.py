"""The services of the hub. Any number of copies of each may run; they meet only in Redis."""
