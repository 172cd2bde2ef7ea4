"""Where a cell lacks what an earlier cell makes, the student reads which cell to run first instead of a stack trace.

It is switched on in each kernel that `labs open` or Binder starts (see startup.py), and does nothing until a cell
fails. Then it reads the notebook, and works out which cells the failing one builds on and which of them have not been
run. Only what the student sees changes: the error stays an error, of the same class, for programs that run notebooks.
"""

import functools
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from labkit.errors import in_lines

_HERE = Path(__file__).resolve().parent
STARTUP = _HERE / "startup.py"
LONGEST = 60  # characters of a cell's first line in a sentence
SET_UP = "set-up"  # id of a lab's first code cell
OPTIMIZED = 1  # flag of the bytecode of functions, which a class has not (inspect.CO_OPTIMIZED)
DELIBERATE = (ValueError, TypeError, KeyError)  # what labkit raises for bad input, besides LabError


@dataclass
class Cell:
    """One code cell: what it makes, and what it needs from elsewhere.

    makes: name -> the line that makes it. deletes: names. now: names that it needs as it runs. later: names that its
    functions need when they are called. changes: names of things that it alters in place. imports: names of modules,
    and of what it takes from them. keys: the constants and attributes under which it stores something.
    """

    id: str
    source: str
    section: str = ""
    makes: dict = field(default_factory=dict)
    deletes: set = field(default_factory=set)
    now: set = field(default_factory=set)
    later: set = field(default_factory=set)
    changes: set = field(default_factory=set)
    imports: set = field(default_factory=set)
    keys: set = field(default_factory=set)

    @property
    def first_line(self):
        """The line with which the cell begins, without its indentation."""
        return next((line.strip() for line in self.source.splitlines() if line.strip()), "")


def startup_settings(environment):
    """Return the environment variables with which a server's kernels switch the guide on as they start.

    environment: the variables so far. The user's own PYTHONSTARTUP is kept, to be run after ours.
    """
    own = environment.get("PYTHONSTARTUP", "")
    settings = {"PYTHONSTARTUP": str(STARTUP)}
    return (
        settings
        if not own or os.path.realpath(own) == os.path.realpath(STARTUP)
        else settings | {"LABKIT_NEXT_STARTUP": own}
    )


def switch_on():
    """Show guidance in this kernel from now on. Does nothing outside of IPython, or if it is on already."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is None or shell.custom_exceptions:  # somebody else's handler stays
        return
    guide = Guide(shell)
    shell.events.register("pre_run_cell", guide.note_start)
    shell.events.register("post_run_cell", guide.note_end)
    shell.set_custom_exc((Exception,), guide.show)


class Guide:
    """What has run in a kernel, and what to show when a cell fails."""

    def __init__(self, shell):
        self.late = shell.execution_count > 1  # then cells may have run that were not noted
        self.current = None  # (id or None, source) of the cell that is running
        self.ran = set()  # ids and sources of the cells that ran to their end

    def note_start(self, info=None):
        """Called by IPython before each cell."""
        self.current = _id_and_source(info)

    def note_end(self, result=None):
        """Called by IPython after each cell."""
        if result is not None and result.success:
            cell_id, source = _id_and_source(result.info)
            if source.startswith("%reset") and not source.startswith("%reset_"):  # all names are gone
                self.ran.clear()
            else:
                self.ran |= {text for text in (cell_id, source) if text}

    def show(self, shell, kind, error, trace, tb_offset=None):
        """Called by IPython with each exception of a cell. Shows guidance, or what IPython would have shown."""
        try:
            lines = self.lines(shell, kind, error, trace)
            if lines is not None:
                error._render_traceback_ = lambda: lines  # which IPython shows in place of the stack trace
        except Exception:  # whatever is wrong here must not hide the student's own error
            lines = None
        try:
            shell.showtraceback((kind, error, trace), running_compiled_code=True)
        finally:
            if lines is not None:  # `%tb` still shows the stack
                del error._render_traceback_

    def lines(self, shell, kind, error, trace):
        """Return what to show in place of the stack trace, or None if that should be shown."""
        names = shell.user_ns
        if isinstance(error, NameError):
            name = getattr(error, "name", None)
            if not name or name in names or not _is_global(name, trace, shell.user_global_ns):
                return None
            sentence = self._on_name(name, names)
            return None if sentence is None else in_lines(sentence)
        refused = (
            in_lines(f"{kind.__name__}: {error.args[0]}") if kind in DELIBERATE and _raised_by_labkit(trace) else None
        )
        found = self._place(names)
        if found is None:
            return refused
        cells, at = found
        unrun = self.unrun(cells, at, names)
        stores = self._on_stored(error, cells, at, unrun, names)
        if stores is not None:
            return in_lines(_sentence(cells, stores[0], stores[1], sorted({*unrun, stores[1]})))
        if not unrun:
            return refused
        if hasattr(error, "_render_traceback_"):
            refused = list(error._render_traceback_())
        if refused:  # a sentence that says what to do, which may be something else
            return [*in_lines(_hint(cells, unrun)), "", *refused]
        return [*shell.InteractiveTB.structured_traceback(kind, error, trace), "", *in_lines(_hint(cells, unrun))]

    def _on_stored(self, error, cells, at, unrun, names):
        """The key or attribute that is missing, and the last cell not run that stores it; None if there is none."""
        if isinstance(error, AttributeError):  # of an object that any cell may have made
            key, candidates = error.name, [i for i in range(at) if not self._is_there(cells[i], names)]
        elif isinstance(error, KeyError) and error.args:
            key, candidates = error.args[0], unrun
        else:
            return None
        for i in reversed(candidates):
            if any(type(key) is type(stored) and key == stored for stored in cells[i].keys):
                return key, i
        return None

    def _on_name(self, name, names):
        found = self._place(names)
        if found is None:
            return None
        cells, at = found
        # A name that is made by no earlier cell is a slip of the student's, or comes further down.
        makers = [i for i in range(at) if name in cells[i].makes]
        if not makers:
            return None
        unrun = sorted({*self.unrun(cells, at, names), makers[-1]})
        return _sentence(cells, name, makers[-1], unrun)

    def unrun(self, cells, at, names):
        """Return the indices of the cells that the cell at `at` builds on and that have not been run, in order.

        names: the kernel's names. A lab's set-up cell counts as needed by all others.
        """
        wanted = needed(cells, at) | ({0} if at > 0 and cells[0].id == SET_UP else set())
        return sorted(i for i in wanted if not self._is_there(cells[i], names))

    def _is_there(self, cell, names):
        """Whether this cell has been run, as far as is known."""
        made_all = all(name in names for name in cell.makes.keys() - cell.deletes)
        return bool({cell.id, cell.source} & self.ran) or (self.late and made_all)

    def _place(self, names):
        """Return the cells of the notebook and the index of the one that is running, or None if it is not known."""
        if self.current is None:
            return None
        cell_id, source = self.current
        cells = self._notebook(names)
        if cells is None:
            return None
        by_id = [i for i, cell in enumerate(cells) if cell_id and cell.id == cell_id]
        at = next(iter(by_id or [i for i, cell in enumerate(cells) if cell.source == source]), len(cells))
        # What is run counts, not what was last saved. A cell that is not in the file yet can need any of the others.
        return [*cells[:at], read_cell(cell_id or "", source), *cells[at + 1 :]], at

    def _notebook(self, names):
        """Return the code cells of the notebook that this kernel belongs to, or None."""
        # jupyter_server says which notebook it is, and so does VS Code.
        for path in filter(None, (os.environ.get("JPY_SESSION_NAME"), names.get("__vsc_ipynb_file__"))):
            if path.endswith(".ipynb") and os.path.isfile(path):
                return read_notebook(path)
        # Others run kernels in the notebook's folder: it is the one that has most of what was run.
        sources = {self.current[1], *self.ran}
        best, most = None, 0
        for path in sorted(Path.cwd().glob("*.ipynb")):
            try:
                shared = sum(source in sources for _, source, _ in _code_cells(path))
            except (OSError, ValueError, KeyError, TypeError):  # no notebook after all
                continue
            if shared > most:
                best, most = path, shared
        return read_notebook(best) if best else None


def read_notebook(path):
    """Return a notebook's code cells, each a Cell. Raises ValueError or KeyError for a file that is no notebook."""
    return [read_cell(*cell) for cell in _code_cells(path)]


def _code_cells(path):
    """Id, source and section of each code cell; its section is the heading above it."""
    import json

    cells, section = [], ""
    for cell in json.loads(Path(path).read_text("utf-8"))["cells"]:
        source = "".join(cell["source"]).strip()
        if cell["cell_type"] == "code":
            cells.append((cell.get("id", ""), source, section))
        elif cell["cell_type"] == "markdown":
            prose = re.sub(r"^```.*?^```", "", source, flags=re.M | re.S)
            section = (re.findall(r"^#+ +(.+?) *#*$", prose, flags=re.M) or [section])[-1]
    return cells


@functools.lru_cache(maxsize=1000)
def read_cell(cell_id, source, section=""):
    """Return a Cell that says what this source makes and needs: nothing, if it is not Python."""
    import ast

    from IPython.core.inputtransformer2 import TransformerManager

    cell = Cell(cell_id, source, section)
    try:
        python = TransformerManager().transform_cell(source)  # magics become calls
        code = compile(python, "cell", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError:
        return cell
    _read_code(code, cell, python.splitlines())
    for node in _outside_functions(ast.parse(python)):
        match node:
            case ast.Import() | ast.ImportFrom():
                cell.imports |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=key), ctx=ast.Store()):
                cell.changes.add(name)
                cell.keys.add(key)
            case ast.Attribute(value=ast.Name(id=name), attr=attribute, ctx=ast.Store()):
                cell.changes.add(name)
                cell.keys.add(attribute)
            case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store()):
                cell.changes.add(name)
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name)))):
                cell.changes.add(name)  # a method that is called for what it does
    return cell


def _read_code(code, cell, lines):
    """Add to `cell` the names that its bytecode loads and stores: Python itself knows best which are global."""
    import builtins
    import dis

    line = 0
    for step in dis.get_instructions(code):
        line = _line_number(step) or line
        name = step.argval
        if step.opname in ("STORE_NAME", "STORE_GLOBAL"):
            cell.makes.setdefault(name, lines[line - 1].strip() if 0 < line <= len(lines) else "")
        elif step.opname in ("DELETE_NAME", "DELETE_GLOBAL"):
            cell.deletes.add(name)
        elif step.opname in ("LOAD_NAME", "LOAD_GLOBAL") and name not in cell.makes:
            cell.now.add(name)
    for inner in _inner(code):
        _read_inner(inner, cell, at_once=True)
    known = {*vars(builtins), "get_ipython", "display", "exit", "quit", "__name__"}
    cell.now -= known
    cell.later -= known | cell.now
    cell.later -= cell.makes.keys()


def _read_inner(code, cell, at_once):
    """Add what a class, comprehension or function takes from the notebook; `at_once`: if what holds it runs at once."""
    import dis

    is_class = not code.co_flags & OPTIMIZED
    at_once = at_once and (is_class or code.co_name in ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"))
    own = set()  # of a class
    for step in dis.get_instructions(code):
        if step.opname == "STORE_GLOBAL":
            cell.makes.setdefault(step.argval, "")
        elif step.opname == "STORE_NAME":
            own.add(step.argval)
        elif step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS") and step.argval not in own:
            if not at_once:
                cell.later.add(step.argval)
            elif step.argval not in cell.makes:
                cell.now.add(step.argval)
    for inner in _inner(code):
        _read_inner(inner, cell, at_once)


def _inner(code):
    return [constant for constant in code.co_consts if hasattr(constant, "co_code")]


def _line_number(step):
    return getattr(step, "line_number", step.starts_line)  # as it is called since Python 3.13, and was before


def _outside_functions(node):
    """All parts of a syntax tree that run at once."""
    import ast

    yield node
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
        for child in ast.iter_child_nodes(node):
            yield from _outside_functions(child)


def needed(cells, at):
    """Return the indices of all cells that the cell at index `at` builds on, directly or through others."""
    found, waiting = set(), [at]
    while waiting:
        i = waiting.pop()
        # A function is called by the cell at `at`, and finds what was made before that.
        sources = [_sources(cells, name, i) for name in cells[i].now]
        sources += [_sources(cells, name, at) for name in cells[i].later]
        new = set().union(*sources) - found - {at}
        found |= new
        waiting += new
    return found


def _sources(cells, name, before):
    """The last cell before index `before` that makes a name, and those after it that change what it stands for."""
    makers = [i for i in range(before) if name in cells[i].makes]
    if not makers or name in cells[makers[-1]].imports:
        return set(makers[-1:])
    return {makers[-1], *(i for i in range(makers[-1], before) if name in cells[i].changes)}


def _sentence(cells, what, maker, unrun):
    """What is missing, where it is made, and which cell to run first."""
    made = f"`{what}` is not there yet: it is made further up, by {_where(cells, maker, what)}."
    if unrun == [maker]:
        return f"{made} Run that cell first, then this one again."
    return f"{made} {_advice('that cell' if unrun[0] == maker else _where(cells, unrun[0]))}"


def _hint(cells, unrun):
    """What to add to an error of another kind, which may come from this."""
    if len(unrun) == 1:
        return f"This cell builds on one that has not been run: {_where(cells, unrun[0])}. Run that cell first."
    return f"This cell builds on others that have not been run. {_advice(_where(cells, unrun[0]))}"


def _advice(first):
    menu = "menu Runtime, Run before" if "google.colab" in sys.modules else "menu Run, Run All Above Selected Cell"
    return f"Begin with {first}; or run everything above: {menu}."


def _where(cells, i, name=None):
    """A cell in words: by its first line and its section, so that a student can find it."""
    if i == 0 and cells[0].id == SET_UP:
        return "the set-up cell, the first one with code"
    cell = cells[i]
    line, verb = cell.first_line, "that begins"
    if [one.first_line for one in cells if one.section == cell.section].count(line) > 1 and cell.makes.get(name):
        line, verb = cell.makes[name], "with the line"
    return f"the cell {verb} `{_short(line)}`" + (f", in the section “{cell.section}”" if cell.section else "")


def _short(line):
    return line if len(line) <= LONGEST else line[: LONGEST - 1].rstrip() + "…"


def _id_and_source(info):
    return (getattr(info, "cell_id", None), (getattr(info, "raw_cell", None) or "").strip())


def _last_frame(trace):
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace


def _is_global(name, trace, names):
    """Whether a NameError is about a name of the notebook, and not of a library or a function."""
    frame = _last_frame(trace).tb_frame
    return frame.f_globals is names and name not in frame.f_code.co_freevars


def _raised_by_labkit(trace):
    """Whether labkit refused what it was given, by a `raise` of its own."""
    import linecache

    last = _last_frame(trace)
    file = last.tb_frame.f_code.co_filename
    return Path(file).is_relative_to(_HERE) and linecache.getline(file, last.tb_lineno).strip().startswith("raise ")
