import platform

import numpy as np

from services.training.run.environment import environment


def test_environment_names_what_figures_depend_on() -> None:
    found = environment()
    assert (found["python"], found["numpy"]) == (platform.python_version(), np.__version__)
    assert int(found["processors"]) >= 1
    assert "" not in found.values()
