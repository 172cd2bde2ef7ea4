"""Errors that a student can act on: in a notebook they show as one sentence, without a stack trace."""

import textwrap

WIDTH = 96  # characters: a longer line of an error JupyterLab breaks in the middle of a word


class LabError(Exception):
    """A foreseeable failure. Its message is one sentence: what is wrong and what to do."""

    def _render_traceback_(self) -> list[str]:
        # IPython shows these lines in place of the stack trace.
        return textwrap.wrap(f"{type(self).__name__}: {self}", WIDTH, break_long_words=False, break_on_hyphens=False)
