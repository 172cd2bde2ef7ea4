"""What is generated in README and notebooks from the course itself: the table of labs, and every public link."""

import re
import subprocess
import tomllib

from labkit import _files
from labkit.errors import LabError
from labtools.project import ROOT, find_labs, read_notebook

PLACEHOLDER = "https://github.com/OWNER/nn-labs"
BADGE = "https://mybinder.org/badge_logo.svg"
# The line of each lab's first cell that fetches labkit on Colab, or says why it cannot.
INSTALL = re.compile(r"^    (%pip install --quiet --no-deps .*|raise ImportError\(\"This copy .*)$", re.MULTILINE)
TABLE = re.compile(r"<!-- table of labs -->.*?<!-- end of table -->", re.DOTALL)
LAUNCH = re.compile(r"<!-- launch -->.*?<!-- end of launch -->", re.DOTALL)
SETTING = re.compile(r'^Repository = "[^"]*"$', re.MULTILINE)


def main(check: bool = False, address: str | None = None) -> int:
    """Write every generated table and link.

    Parameters
    ----------
    check : bool
        Change nothing; only say what is out of date.
    address : str, optional
        The public address of this copy, to be kept in pyproject.toml. Where that has none yet, it is asked of git.

    Returns
    -------
    int
        The exit status: 1 where `check` found something, else 0.

    Raises
    ------
    LabError
        If the address is none of GitHub's, or a file has lost the comments between which generated text stands.
    """
    if not check and (address or repository() == PLACEHOLDER):
        _keep(address or _of_git())
    texts = generated()
    outdated = [path for path, text in texts.items() if path.read_text("utf-8") != text]
    names = ", ".join(str(path.relative_to(ROOT)) for path in outdated)
    if check:
        print(f"out of date: {names}. `labs site` brings them up to date." if names else "All pages are up to date.")
        return int(bool(outdated))
    for path in outdated:
        _files.replace(path, texts[path])
    print(f"brought up to date: {names}" if names else "All pages were up to date.")
    if repository() == PLACEHOLDER:
        print("This copy has no public address yet, so it has no launch links: use `labs site --address URL`.")
    return 0


def repository() -> str:
    """The public address, from [project.urls] in pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Repository"].rstrip("/")


def _of_git():
    """The address of the remote `origin`, as a browser wants it; the placeholder where there is none on GitHub."""
    command = ["git", "-C", str(ROOT), "remote", "get-url", "origin"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return PLACEHOLDER
    found = re.fullmatch(r"(?:https://(?:[^@/]+@)?|git@|ssh://git@)github\.com[:/](.+?)(?:\.git)?/?", said)
    return f"https://github.com/{found[1]}" if found else PLACEHOLDER


def _keep(address):
    address = address.rstrip("/").removesuffix(".git")
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address):
        raise LabError(f"{address} is no address that Binder and Colab can open: give https://github.com/OWNER/NAME.")
    path = ROOT / "pyproject.toml"
    text = path.read_text("utf-8")
    if new := SETTING.sub(f'Repository = "{address}"', text):
        _files.replace(path, new)


def labs() -> list[tuple]:
    """The labs in order: (path, title, minutes of a student's time)."""
    found = []
    for path in find_labs():
        notebook = read_notebook(path)
        title = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
        found.append((path, title, notebook.metadata.get("labkit", {}).get("minutes")))
    return found


def generated() -> dict:
    """What each file should say: path -> text of the whole file."""
    address, rows = repository(), labs()
    texts = {ROOT / "README.md": _readme((ROOT / "README.md").read_text("utf-8"), rows, address)}
    return texts | {path: _notebook(path, rows, address) for path, _, _ in rows}


def _binder(address, name):
    return f"https://mybinder.org/v2/gh/{address.removeprefix('https://github.com/')}/HEAD?urlpath=lab/tree/{name}"


def _readme(text, rows, address):
    known = address != PLACEHOLDER
    table = ["| | lab | minutes |" + " |" * known, "|---|---|---|" + "---|" * known]
    links = []
    for path, title, minutes in rows:
        launch = f" [launch][{path.name[:2]}] |" if known else ""
        table.append(f"| {path.name[:2]} | [{title}](notebooks/{path.name}) | {minutes or ''} |{launch}")
        links.append(f"[{path.name[:2]}]: {_binder(address, f'notebooks/{path.name}')}")
    text = _replace(TABLE, text, ["<!-- table of labs -->", *table, *["", *links] * known, "<!-- end of table -->"])
    if known:
        badge = f"[![Launch on Binder]({BADGE})]({_binder(address, 'notebooks/00_index.ipynb')})"
        first = f"{badge} opens the course in your browser, with nothing to install. Or `git clone {address}`."
    else:
        first = (
            "**This copy has no public address yet, so it cannot be launched on Binder or Colab.** Whoever publishes "
            "it runs `python3 labs.py site --address https://github.com/OWNER/NAME`, which writes every link."
        )
    return _replace(LAUNCH, text, ["<!-- launch -->", first, "<!-- end of launch -->"])


def _notebook(path, rows, address):
    import nbformat

    install = f'    %pip install --quiet --no-deps "git+{address}"'
    if address == PLACEHOLDER:
        install = (
            '    raise ImportError("This copy has no public address, so Colab cannot fetch labkit from it.") from None'
        )
    notebook = read_notebook(path)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = INSTALL.sub(lambda _: install, cell.source)
        elif TABLE.search(cell.source):
            table = ["| | lab | minutes |", "|---|---|---|"]
            table += [f"| {p.name[:2]} | [{title}]({p.name}) | {minutes} |" for p, title, minutes in rows if minutes]
            cell.source = _replace(TABLE, cell.source, ["<!-- table of labs -->", *table, "<!-- end of table -->"])
    return nbformat.writes(notebook) + "\n"


def _replace(pattern, text, lines):
    if not pattern.search(text):
        raise LabError(f"A page has lost the comments between which generated text stands ({pattern.pattern}).")
    return pattern.sub(lambda _: "\n".join(lines), text)
