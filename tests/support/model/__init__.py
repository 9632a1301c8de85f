"""What the store should do, as plain Python: no Redis, no bounds on work, no thought of cost.

The rules are those of the scripts, told once more in the simplest way there is. Times are milliseconds unless a name
says otherwise; the model's clock is set by whoever drives it.
"""

from __future__ import annotations

from tests.support.model.records import Answer, ModelAgent, ModelTask, Refused
from tests.support.model.whole import Model

__all__ = ["Answer", "Model", "ModelAgent", "ModelTask", "Refused"]
