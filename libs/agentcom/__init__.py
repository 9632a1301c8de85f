"""AgentCom: a task-orchestration hub for autonomous agents, on Redis."""

__version__ = "0.1.0"
