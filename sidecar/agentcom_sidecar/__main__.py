"""``python -m agentcom_sidecar``: the same program as the ``agentcom-sidecar`` script."""

import gc

# What is made while modules load stays: looking through it again and again would slow down the start.
gc.set_threshold(50_000, 20, 50)

from agentcom_sidecar.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
