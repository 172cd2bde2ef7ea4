"""In a kernel with a student, a NameError says which cell makes the name, as the notebook was last saved."""

import ast
import contextlib
import json
import os
import re
import sys
import traceback
from pathlib import Path

COURSE = Path(__file__).resolve().parent.parent / "notebooks"  # not there where labkit alone is installed


class Cell:
    """A code cell, the heading above it, and the names that it makes: none while its code is not finished."""

    def __init__(self, source: str, section: str = "", name: str = ""):
        from IPython.core.inputtransformer2 import TransformerManager

        self.source, self.section, self.id, self.made = source, section, name, set()
        # These magics run what follows them as Python; what follows others is something else.
        code = re.sub(r"^( *)(?:%%(?:time|capture)\b.*|%time +)", r"\1", source, flags=re.MULTILINE)
        with contextlib.suppress(SyntaxError, ValueError):
            _note_names(ast.parse(TransformerManager().transform_cell(code)), self.made)

    def __str__(self):
        first = next((line.strip() for line in self.source.splitlines() if line.strip()), "")
        return f"the cell that begins `{first}`" + (f", in the section “{self.section}”" if self.section else "")


def _note_names(node, made):
    """Note the names that code leaves behind: not those inside of its functions, comprehensions and except clauses."""
    inner = ast.iter_child_nodes(node)
    match node:
        case ast.Name(id=name, ctx=ast.Store()):
            made.add(name)
        case ast.Name(id=name, ctx=ast.Del()):
            made.discard(name)
        case ast.alias(name=name, asname=other):
            made.add((other or name).partition(".")[0])
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            made.update([name], *(one.names for one in ast.walk(node) if isinstance(one, ast.Global)))
            inner = []
        case ast.comprehension(iter=values, ifs=conditions):
            inner = [values, *conditions]
        case ast.Lambda() | ast.AnnAssign(value=None):
            inner = []
    for one in inner:
        _note_names(one, made)


def read(path) -> list[Cell]:
    """The code cells of a notebook's file. Raises OSError, ValueError or KeyError for a file that is no notebook."""
    cells, section = [], ""
    for cell in json.loads(Path(path).read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            cells.append(Cell(source, section, cell.get("id", "")))
        elif cell["cell_type"] == "markdown":
            prose = re.sub(r"^```.*?^```", "", source, flags=re.MULTILINE | re.DOTALL)
            section = (re.findall(r"^#+ +(.+?) *#*$", prose, flags=re.MULTILINE) or [section])[-1]
    return cells


def explain_name_errors() -> None:
    """In an interactive kernel, let each NameError say which cell makes the name; elsewhere, do nothing."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and os.environ.get("LABKIT_LIVE") != "0" and not shell.custom_exceptions:
        shell.set_custom_exc((NameError,), _show)


def _show(shell, kind, error, trace, tb_offset=None):
    shell.showtraceback((kind, error, trace), tb_offset=tb_offset)
    with contextlib.suppress(Exception):  # whatever is wrong here must not hide the student's own error
        frame = [frame for frame, _ in traceback.walk_tb(trace)][-1]
        # The name is one of the notebook's, not of another module or of a function around this one, and is not there.
        if frame.f_globals is shell.user_ns and error.name not in {*shell.user_ns, *frame.f_code.co_freevars}:
            _explain(error.name, shell)


def _explain(name, shell):
    """Print where the notebook makes a name; nothing where that is no cell above the one that is running."""
    # jupyter_server says which notebook this is, and so does VS Code.
    path = Path(os.environ.get("JPY_SESSION_NAME") or shell.user_ns["__vsc_ipynb_file__"])
    cells, running = read(path), shell.get_parent()
    places = [n for n, cell in enumerate(cells) if cell.id == running["metadata"].get("cellId")]
    places += [n for n, cell in enumerate(cells) if cell.source == running["content"]["code"]]
    above = cells[: places[0]] if places else cells  # a cell that is not saved yet may stand anywhere
    for cell in reversed(above):
        if name in cell.made:
            return print(f"`{name}` is made by {cell}. Run that cell first, then this one again.", file=sys.stderr)
    for lab in sorted(COURSE.glob("*.ipynb")):  # the name of a copy begins with that of the lab
        if path.stem.startswith(lab.stem) and not any(name in cell.made for cell in cells):
            for cell in read(lab):
                if name in cell.made:
                    return print(f"`{name}` is made by a cell that was deleted: {cell}, in {lab}.", file=sys.stderr)
