"""The REST side of the hub: tasks, agents, registration, tokens, health."""
