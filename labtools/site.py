"""What is generated in README, notebooks and pages: links to the one address in pyproject.toml, and tables."""

import re
import tomllib

from labkit import _files
from labkit.errors import LabError
from labtools.project import ROOT, find_labs, read_notebook

BINDER_BADGE = "https://mybinder.org/badge_logo.svg"
COLAB_BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
INSTALL = re.compile(r'%pip install --quiet --no-deps "git\+[^"]*"')
TABLE = re.compile(r"<!-- table of labs -->.*?<!-- end of table -->", re.DOTALL)
LAUNCH = re.compile(r"<!-- launch -->.*?<!-- end of launch -->", re.DOTALL)


def repository():
    """The public address, from [project.urls] in pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Repository"].rstrip("/")


def labs():
    """The labs in order: a list of (path, title, minutes of a student's time)."""
    found = []
    for path in find_labs():
        notebook = read_notebook(path)
        title = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
        found.append((path, title, notebook.metadata.get("labkit", {}).get("minutes")))
    return found


def binder(path=None):
    """The address that launches JupyterLab on Binder, on one notebook or on the index."""
    owner_and_name = repository().removeprefix("https://github.com/")
    file = f"notebooks/{path.name if path else '00_index.ipynb'}"
    return f"https://mybinder.org/v2/gh/{owner_and_name}/HEAD?urlpath=lab/tree/{file}"


def colab(path):
    """The address that opens one notebook on Colab."""
    owner_and_name = repository().removeprefix("https://github.com/")
    return f"https://colab.research.google.com/github/{owner_and_name}/blob/HEAD/notebooks/{path.name}"


def generated():
    """What each file should say: a dict of path -> text of the whole file."""
    return {ROOT / "README.md": _readme()} | {path: _notebook(path) for path, _, _ in labs()}


def main(check=False):
    """Write every generated badge, link and table. With `check`, only say what is out of date; returns 0 or 1."""
    outdated = [path for path, text in generated().items() if not path.exists() or path.read_text("utf-8") != text]
    names = ", ".join(str(path.relative_to(ROOT)) for path in outdated)
    if check:
        print(f"out of date: {names}. `labs site` brings them up to date." if names else "All pages are up to date.")
        return 1 if outdated else 0
    texts = generated()
    for path in outdated:
        _files.replace(path, texts[path])
    print(f"brought up to date: {names}" if names else "All pages were up to date.")
    return 0


def _readme():
    text = (ROOT / "README.md").read_text("utf-8")
    rows = ["| | lab | minutes | |", "|---|---|---|---|"]
    for path, title, minutes in labs():
        launch = f"[![Binder]({BINDER_BADGE})]({binder(path)}) [![Colab]({COLAB_BADGE})]({colab(path)})"
        rows.append(f"| {path.name[:2]} | [{title}](notebooks/{path.name}) | {minutes or ''} | {launch} |")
    text = _replace(TABLE, text, "\n".join(["<!-- table of labs -->", *rows, "<!-- end of table -->"]), "README.md")
    badge = f"[![Launch the course on Binder]({BINDER_BADGE})]({binder()})"
    lines = [
        "<!-- launch -->",
        f"{badge} opens the course in your browser, with nothing to install.",
        "",
        f"To have it on your computer, `git clone {repository()}`, or download and unpack it from there.",
        "<!-- end of launch -->",
    ]
    return _replace(LAUNCH, text, "\n".join(lines), "README.md")


def _notebook(path):
    import nbformat

    notebook = read_notebook(path)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = INSTALL.sub(f'%pip install --quiet --no-deps "git+{repository()}"', cell.source)
        elif TABLE.search(cell.source):
            rows = ["| | lab | minutes |", "|---|---|---|"]
            rows += [f"| {p.name[:2]} | [{title}]({p.name}) | {minutes} |" for p, title, minutes in labs() if minutes]
            table = "\n".join(["<!-- table of labs -->", *rows, "<!-- end of table -->"])
            cell.source = _replace(TABLE, cell.source, table, path.name)
    return nbformat.writes(notebook) + "\n"


def _replace(pattern, text, new, name):
    if not pattern.search(text):
        raise LabError(f"{name} has lost the comments between which generated text stands ({pattern.pattern}).")
    return pattern.sub(lambda _: new, text)
