"""What holds for all tests: property tests give the same verdict on a busy machine as on an idle one, and a gateway that a
test starts finds its modules compiled, as an installed one does: that is nearly half of the time of a start.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile("postroom", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("postroom")

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # of the hundreds of processes that are started
