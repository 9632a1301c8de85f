"""The process beside an agent that takes tasks from an AgentCom hub and delivers the agent's result."""

__version__ = "0.1.0"
