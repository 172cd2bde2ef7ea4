"""What every test and every notebook under nbval shares: the environment that kernels inherit."""

import os

from labkit import _machine
from labtools import project

project.fix_data_path()
# Notebooks are tested side by side, one kernel per core.
for name, value in _machine.environment(threads=1).items():
    os.environ.setdefault(name, value)
