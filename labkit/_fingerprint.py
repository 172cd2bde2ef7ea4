"""A fingerprint of a function's code: what decides its results; neither layout, nor comments, nor docstrings.

It is that of the function's syntax tree, and of everything that the global names in it stand for: constants, other
functions and classes of the same notebook. Installed code counts by its name alone.
"""

import ast
import dis
import functools
import hashlib
import inspect
import json
import textwrap
from collections.abc import Mapping

from labkit.errors import LabError


def digest(value):
    """A short SHA-256 digest of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def tree(node):
    """A syntax tree as nested lists. `ast.dump` will not do: newer Pythons have more fields, all empty here."""
    if isinstance(node, ast.JoinedStr):  # Python 3.12.1 has empty texts in there
        return [tree(part) for part in node.values if getattr(part, "value", None) != ""]
    if isinstance(node, list):
        return [tree(each) for each in node if not _is_text(each)]
    if not isinstance(node, ast.AST):
        return node if isinstance(node, (str, int, float, bool, type(None))) else repr(node)
    fields = [[name, tree(value)] for name, value in ast.iter_fields(node) if value not in (None, [])]
    return [type(node).__name__, *fields]


def _is_text(node):
    """Whether a statement only says something, as a docstring does."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def of(function, seen=None):
    """What decides a notebook function's results, as nested lists and dicts of texts and numbers.

    Raises LabError where its code cannot be found, or where it uses a global whose contents cannot be told.
    """
    seen = set() if seen is None else seen
    if function in seen:
        return function.__name__
    seen.add(function)
    try:
        if function.__code__.co_filename == "<string>":
            # What exec compiled has no source; but from Python 3.13 on, that of `python -c` is found under its name.
            raise OSError
        source = inspect.getsource(function.__code__)  # not of what a decorator wraps: that is in its closure
    except (OSError, TypeError):
        raise LabError(
            f"The code of {getattr(function, '__name__', function)} cannot be found, so a record of it would not "
            "tell what made it: define it in a cell or a file."
        ) from None
    code = function.__code__
    names = sorted(_global_names(code) & set(function.__globals__))
    uses = {name: function.__globals__[name] for name in names}
    uses |= {name: cell.cell_contents for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True)}
    uses |= _defaults(function, source)
    return [_parsed(source), {name: _meaning(value, function.__globals__, seen) for name, value in uses.items()}]


def _parsed(source):
    """The tree of a function's source; of a lambda in the middle of something, the text without its layout."""
    try:
        return tree(ast.parse(textwrap.dedent(source)))
    except SyntaxError:
        return " ".join(source.split())


def _defaults(function, source):
    """Those defaults of a function's parameters that are more than a number or text that its source shows."""
    values = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    try:
        nodes = ast.walk(ast.parse(textwrap.dedent(source)))
        arguments = next(node.args for node in nodes if isinstance(node, (ast.FunctionDef, ast.Lambda)))
        written = [*arguments.defaults, *filter(None, arguments.kw_defaults)]
    except (SyntaxError, StopIteration):  # a lambda in the middle of something
        written = []
    shown = len(written) == len(values)
    return {
        f"default {n}": value for n, value in enumerate(values) if not (shown and isinstance(written[n], ast.Constant))
    }


def _meaning(value, notebook, seen):
    """A description of a global value, the same in every process. notebook: the dict of its globals."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return [_meaning(part, notebook, seen) for part in value]
    if isinstance(value, Mapping):
        return {str(key): _meaning(part, notebook, seen) for key, part in value.items()}
    if inspect.isfunction(value) and value.__globals__ is notebook:
        return of(value, seen)
    if inspect.isclass(value) and value.__module__ == notebook.get("__name__"):
        return _class(value, notebook, seen)
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    if isinstance(value, (range, bytes, complex)):
        return repr(value)
    if isinstance(value, functools.partial):
        return [_meaning(part, notebook, seen) for part in (value.func, value.args, value.keywords)]
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return [str(value.dtype), repr(value.tolist())]
    if type(value).__module__ == notebook.get("__name__"):
        return [_meaning(type(value), notebook, seen), _meaning(vars(value), notebook, seen)]
    if isinstance(getattr(value, "__name__", None), str):  # installed: a module, class or function
        return value.__name__
    raise LabError(
        f"A study's code uses a global {type(value).__name__}, whose contents a record cannot tell: make it inside "
        "the function that uses it."
    )


def _class(value, notebook, seen):
    """What `_meaning` makes of a notebook's class: its methods, its constants, and those of its bases."""
    members = {}
    for name, member in vars(value).items():
        function = getattr(member, "__func__", member)  # of a classmethod or staticmethod
        if isinstance(member, property):
            members |= {f"{name} {n}": of(f, seen) for n, f in enumerate((member.fget, member.fset)) if f}
        elif not inspect.isfunction(function):
            if not name.startswith("__"):
                members[name] = _meaning(member, notebook, seen)
        elif function.__code__.co_filename != "<string>":  # which a dataclass makes itself
            members[name] = of(function, seen)
    bases = [_class(base, notebook, seen) for base in value.__bases__ if base.__module__ == notebook.get("__name__")]
    return [members, bases] if bases else members


def _global_names(code):
    """Names that a code object, and those inside of it, look up among the globals."""
    inner = [constant for constant in code.co_consts if inspect.iscode(constant)]
    own = {line.argval for line in dis.get_instructions(code) if line.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return own.union(*map(_global_names, inner))
