"""From nothing to an agent that has done its first task, in steps that can be taken up again after any crash."""
