"""What every test and every notebook under nbval shares: the environment that kernels inherit."""

import os
import tempfile

from labkit import _machine
from labtools import project

project.fix_data_path()
# What a user's own profile of IPython does to kernels is no business of the tests.
profile = tempfile.TemporaryDirectory()
os.environ.update(IPYTHONDIR=profile.name, PYTHONSTARTUP="")
# Notebooks are tested side by side, one kernel per core.
for name, value in _machine.environment(threads=1).items():
    os.environ.setdefault(name, value)
