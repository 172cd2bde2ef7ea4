"""Errors that a student can act on: in a notebook they show as one sentence, without a stack trace."""

import textwrap

WIDTH = 96  # characters: a longer line JupyterLab breaks in the middle of a word


def in_lines(sentence: str) -> list[str]:
    """A sentence as lines that JupyterLab shows as they are."""
    return textwrap.wrap(sentence, WIDTH, break_long_words=False, break_on_hyphens=False)


class LabError(Exception):
    """A foreseeable failure. Its message is one sentence: what is wrong and what to do."""

    def _render_traceback_(self) -> list[str]:
        # IPython shows these lines in place of the stack trace.
        return in_lines(f"{type(self).__name__}: {self}")
