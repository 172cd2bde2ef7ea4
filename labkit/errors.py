"""Errors that a student can act on: in a notebook they show as one sentence, without a stack trace."""


class LabError(Exception):
    """A foreseeable failure. Its message is one sentence: what is wrong and what to do."""

    def _render_traceback_(self):
        # IPython shows what this returns in place of the stack trace.
        return [f"{type(self).__name__}: {self}"]
