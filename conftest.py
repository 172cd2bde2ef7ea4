"""What every test and every notebook under nbval shares: the environment that kernels inherit, and who runs what."""

import os
import tempfile

import pytest

from labkit import _machine
from labtools import project

project.fix_data_path()
# What a user's own profile of IPython does to kernels is no business of the tests.
profile = tempfile.TemporaryDirectory()
os.environ.update(IPYTHONDIR=profile.name, PYTHONSTARTUP="")
# Notebooks are tested side by side, one kernel per core.
for name, value in _machine.environment(threads=1).items():
    os.environ.setdefault(name, value)

SPREAD = {"test_solved.py", "test_training_judges.py"}  # files whose tests each take long, and share nothing


def pytest_collection_modifyitems(items):
    """Keep the cells of a notebook and the tests of a file with one worker, but for a few files that are spread."""
    for item in items:
        if item.path.name not in SPREAD:
            item.add_marker(pytest.mark.xdist_group(item.path.name))
