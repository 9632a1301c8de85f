"""The agent gateway: holds the sockets of agents, and nothing else."""
