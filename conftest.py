"""What every test and every notebook under nbval shares: the environment that kernels inherit."""

import os

from labkit import runner

runner.fix_data_path()
# Notebooks are tested side by side, one kernel per core.
for name, value in runner.kernel_settings(threads=1).items():
    os.environ.setdefault(name, value)
