"""Which cell of a notebook makes a name, and on which cells does another one build?

Read from the cells' symbol tables; nothing is run. In a kernel with a student, a NameError then says where to look.
"""

import builtins
import json
import os
import re
import symtable
import sys
from dataclasses import dataclass, field
from pathlib import Path

ALWAYS = {*vars(builtins), "get_ipython", "display"}


@dataclass
class Cell:
    """A code cell, the heading above it, and the global names that its code makes and uses."""

    source: str
    section: str = ""
    made: set = field(default_factory=set)
    used: set = field(default_factory=set)

    def __post_init__(self):
        # Magics and shell commands are no Python.
        lines = [re.sub(r"^(\s*)[%!].*", r"\1pass", line) for line in self.source.splitlines()]
        try:
            top = symtable.symtable("\n".join(lines), "cell", "exec")
        except (SyntaxError, ValueError):
            return
        self._read(top)
        self.used -= self.made | ALWAYS

    def _read(self, table):
        is_top = table.get_type() == "module"
        for symbol in table.get_symbols():
            if is_top or symbol.is_global():
                if symbol.is_assigned() or symbol.is_imported():
                    self.made.add(symbol.get_name())
                if symbol.is_referenced():
                    self.used.add(symbol.get_name())
        for inner in table.get_children():
            self._read(inner)

    def __str__(self):
        first = next((line.strip() for line in self.source.splitlines() if line.strip()), "")
        return f"the cell that begins `{first}`" + (f", in the section “{self.section}”" if self.section else "")


def read(path) -> list[Cell]:
    """The code cells of a notebook's file. Raises OSError, ValueError or KeyError for a file that is no notebook."""
    cells, section = [], ""
    for cell in json.loads(Path(path).read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            cells.append(Cell(source, section))
        elif cell["cell_type"] == "markdown":
            section = (re.findall(r"^#+ +(.+?) *#*$", source, flags=re.M) or [section])[-1]
    return cells


def needed(cells: list[Cell], at: int) -> list[int]:
    """Indices of the cells that the cell at index `at` builds on, directly or through others, in order."""
    found, waiting = set(), [at]
    while waiting:
        i = waiting.pop()
        makers = {max((n for n in range(i) if name in cells[n].made), default=None) for name in cells[i].used}
        waiting += makers - found - {None}
        found |= makers - {None}
    return sorted(found)


def explain_name_errors() -> None:
    """In an interactive kernel, let each NameError say which cell makes the name; elsewhere, do nothing."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and os.environ.get("LABKIT_LIVE") != "0":
        shell.set_custom_exc((NameError,), _show)


def _show(shell, kind, error, trace, tb_offset=None):
    shell.showtraceback((kind, error, trace), tb_offset=tb_offset)
    try:
        cells = read(_notebook(shell.user_ns))
        maker = next((cell for cell in cells if error.name in cell.made), None)
    except Exception:  # whatever is wrong here must not hide the student's own error
        return
    if maker is not None and error.name not in shell.user_ns:
        print(f"`{error.name}` is made by {maker}. Run that cell first, then this one again.", file=sys.stderr)


def _notebook(names):
    """The path of the notebook that this kernel belongs to: jupyter_server says which, and so does VS Code."""
    return os.environ.get("JPY_SESSION_NAME") or names["__vsc_ipynb_file__"]
