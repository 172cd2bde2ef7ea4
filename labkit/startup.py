"""Run by Python as a kernel starts, because PYTHONSTARTUP names this file: switches labkit's guide on.

It runs among the student's own names, so it leaves none; and in whatever kernel the student chooses, which may have no
labkit.
"""


def _start(names):
    import contextlib
    import os
    from pathlib import Path

    with contextlib.suppress(Exception):  # a kernel without the guide is better than none
        from labkit import guide

        guide.switch_on()
    before = os.environ.pop("LABKIT_NEXT_STARTUP", "")  # what PYTHONSTARTUP named without us
    if os.path.isfile(before):
        try:  # without the variable: that file may be the one of another copy of the course
            exec(compile(Path(before).read_bytes(), before, "exec"), names)
        finally:
            os.environ["LABKIT_NEXT_STARTUP"] = before


try:
    _start(globals())
finally:
    globals().pop("_start", None)  # unless that other file was such a one, and has done so
