"""Options of the test suite, and fixtures that more than one file needs."""

import pytest


def pytest_addoption(parser):
    parser.addoption("--trials", type=int, default=5, help="how often tests that kill a process at random do it")


@pytest.fixture
def trials(request):
    """How often a test that relies on chance tries its luck."""
    return request.config.getoption("--trials")
