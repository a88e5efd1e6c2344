"""Mark of tests that run somebody else's code: skipped where it cannot be confined (bubblewrap is missing), with that as reason."""

import pytest

from explorer.core.confinement import not_prevented

confining = pytest.mark.skipif(not_prevented() is not None, reason=str(not_prevented()))
