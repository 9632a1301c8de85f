"""``python -m agentcom_sidecar``: the same program as the ``agentcom-sidecar`` script."""

from agentcom_sidecar.cli import main

if __name__ == "__main__":
    main()
