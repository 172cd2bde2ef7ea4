import re

import nbformat
import pytest

from labkit import links
from labkit.errors import LabError


def test_all_links_are_up_to_date():
    assert [str(path) for path, text in links.generated().items() if path.read_text("utf-8") != text] == []


def test_the_address_stands_once():
    # Only in pyproject.toml by hand; everywhere else it is generated. Source files must not repeat it.
    address = links.repository()
    for path in [*links.ROOT.glob("*.py"), *links.ROOT.glob("labkit/**/*.py"), *links.ROOT.glob("binder/*")]:
        assert address not in path.read_text("utf-8"), path


def test_a_new_address_reaches_every_file(monkeypatch):
    old = links.repository().removeprefix("https://github.com/")
    monkeypatch.setattr(links, "repository", lambda: "https://github.com/someone/elsewhere")
    for path, text in links.generated().items():
        assert old not in text, path
    readme = links.generated()[links.ROOT / "README.md"]
    launched = readme.count("mybinder.org/v2/gh/someone/elsewhere/HEAD?urlpath=lab/tree/notebooks/")
    assert launched == len(links.labs()) + 1


def test_links_are_written_and_checked(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text("old\n", encoding="utf-8")
    monkeypatch.setattr(links, "ROOT", tmp_path)
    monkeypatch.setattr(links, "generated", lambda: {page: "new ✓\n"})
    assert links.main(check=True) == 1 and page.read_text("utf-8") == "old\n"
    assert "out of date: page.md" in capsys.readouterr().out
    assert links.main() == 0 and page.read_bytes() == "new ✓\n".encode()
    assert links.main(check=True) == 0


def test_relative_links_lead_somewhere():
    texts = {links.ROOT / "README.md": (links.ROOT / "README.md").read_text("utf-8")}
    for path, _, _ in links.labs():
        texts[path] = "\n".join(c.source for c in nbformat.read(path, 4).cells if c.cell_type == "markdown")
    for path, text in texts.items():
        for target in re.findall(r"\]\(([^)#\s]+)\)", text):
            assert "://" in target or (path.parent / target).exists(), f"{path.name} links to {target}"


def test_sections_that_are_named_exist():
    # As in "[lab 03](03_early_stopping.ipynb), *The rule that never stopped* and *Other rules*".
    named = re.compile(r"\[lab \d\d\]\((\S+?\.ipynb)\), (\*[^*]+\*(?: and \*[^*]+\*)*)")
    found = 0
    for path, _, _ in links.labs():
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


def test_a_lab_90_that_was_not_run_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    cell = nbformat.v4.new_code_cell("print(1)", id="short-form")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "notebooks" / "90_x.ipynb")
    monkeypatch.setattr(links, "ROOT", tmp_path)
    with pytest.raises(LabError, match="labs run --save 90"):
        links.reproduction()


def test_lost_markers_are_one_sentence():
    with pytest.raises(LabError, match=r"README\.md has lost"):
        links._replace(links.TABLE, "no table here", "", "README.md")
