"""The commands for operators; ``run`` and ``check`` are in `agentcom_sidecar.cli`."""
