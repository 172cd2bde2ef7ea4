"""What is generated in README and notebooks: the table of labs, and links under the address of this copy."""

import re
import shutil

import nbformat
import pytest

from labkit.errors import LabError
from labtools import project, site
from labtools.project import ROOT


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the course's pages."""
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "notebooks").mkdir()
    for name in ("00_index.ipynb", "06_scratch_xor.ipynb"):
        shutil.copy(ROOT / "notebooks" / name, tmp_path / "notebooks")
    for module in (site, project):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(project, "NOTEBOOKS", tmp_path / "notebooks")
    return tmp_path


def test_all_pages_are_up_to_date():
    assert site.main(check=True) == 0


def test_the_address_stands_in_one_place_only():
    address = site.repository()
    files = [*ROOT.glob("*.py"), *ROOT.glob("labkit/**/*.py"), *ROOT.glob("binder/*"), ROOT / "environment.yml"]
    assert [path.name for path in files if address in path.read_text("utf-8")] == []


def test_a_fork_publishes_under_its_own_address(copy, capsys):
    assert site.main(address="https://github.com/ada/my-labs.git") == 0
    assert site.repository() == "https://github.com/ada/my-labs"
    readme = (copy / "README.md").read_text("utf-8")
    assert readme.count("mybinder.org/v2/gh/ada/my-labs/HEAD?urlpath=lab/tree/notebooks/") == 3
    assert "no public address" not in readme and "OWNER" not in readme
    lab = nbformat.read(copy / "notebooks" / "06_scratch_xor.ipynb", 4)
    first = next(cell.source for cell in lab.cells if cell.cell_type == "code")
    assert '%pip install --quiet --no-deps "git+https://github.com/ada/my-labs"' in first
    assert site.main(check=True) == 0


def test_while_there_is_no_address_every_place_of_a_link_says_so(copy, monkeypatch, capsys):
    monkeypatch.setattr(site, "_of_git", lambda: site.PLACEHOLDER)
    site.main(address=site.PLACEHOLDER)
    readme = (copy / "README.md").read_text("utf-8")
    assert "mybinder.org" not in readme and "no public address yet" in readme
    lab = (copy / "notebooks" / "06_scratch_xor.ipynb").read_text("utf-8")
    assert "%pip" not in lab and "This copy has no public address" in lab
    assert "labs site --address URL" in capsys.readouterr().out


@pytest.mark.parametrize("said, address", [
    ("https://github.com/ada/labs.git", "https://github.com/ada/labs"),
    ("git@github.com:ada/labs.git", "https://github.com/ada/labs"),
    ("ssh://git@github.com/ada/labs", "https://github.com/ada/labs"),
    ("https://ada:secret@github.com/ada/labs", "https://github.com/ada/labs"),
    ("/srv/git/labs", site.PLACEHOLDER), ("", site.PLACEHOLDER),
])  # fmt: skip
def test_the_address_is_asked_of_git(said, address, monkeypatch):
    monkeypatch.setattr(site.subprocess, "run", lambda *_, **__: type("Done", (), {"stdout": said + "\n"}))
    assert site._of_git() == address


@pytest.mark.parametrize("address", ["github.com/ada/labs", "https://example.org/labs", "https://github.com/ada"])
def test_an_address_that_cannot_be_launched_is_refused(copy, address):
    with pytest.raises(LabError, match="is no address that Binder and Colab can open"):
        site.main(address=address)


def test_lost_markers_are_one_sentence(copy):
    (copy / "README.md").write_text("# Mine\n", encoding="utf-8")
    with pytest.raises(LabError, match="has lost the comments"):
        site.main()


def test_relative_links_lead_somewhere():
    pages = ("README.md", "CONTRIBUTING.md", "classroom/README.md", "benchmarks/README.md")
    texts = {ROOT / page: (ROOT / page).read_text("utf-8") for page in pages}
    for path, _, _ in site.labs():
        texts[path] = "\n".join(c.source for c in nbformat.read(path, 4).cells if c.cell_type == "markdown")
    for path, text in texts.items():
        for target in re.findall(r"\]\(([^)#\s]+)\)", text):
            assert "://" in target or (path.parent / target).exists(), f"{path.name} links to {target}"


def test_sections_that_are_named_exist():
    # As in "[lab 03](03_early_stopping.ipynb), *The rule that never stopped* and *Other rules*".
    named = re.compile(r"\[lab \d\d\]\((\S+?\.ipynb)\), (\*[^*]+\*(?: and \*[^*]+\*)*)")
    found = 0
    for path, _, _ in site.labs():
        for cell in nbformat.read(path, 4).cells:
            for file, sections in named.findall(cell.source):
                headings = [
                    line.lstrip("# ")
                    for c in nbformat.read(path.parent / file, 4).cells
                    if c.cell_type == "markdown"
                    for line in c.source.splitlines()
                    if line.startswith("#")
                ]
                for section in re.findall(r"\*([^*]+)\*", sections):
                    assert section in headings, f"{path.name}: {file} has no section {section}"
                    found += 1
    assert found > 10
