import platform

import numpy as np

from services.training.run.environment import environment


def test_environment_names_what_figures_depend_on() -> None:
    result = environment()
    assert (result["python"], result["numpy"]) == (platform.python_version(), np.__version__)
    assert int(result["processors"]) >= 1
    assert "" not in result.values()
