"""What every lab has in common: valid, executed, comparable, small, and written the way the course is."""

import ast
import importlib
import inspect
import json
import re

import nbformat
import pytest

from labkit.exercises import core
from labtools.project import ROOT

PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
IGNORE = "nbval-ignore-output"
MOST_IGNORED = 8  # cells a lab whose output may go uncompared
CLOSING = ["On your own", "In practice", "Summary", "Further reading"]
# A share or an accuracy to several digits is a measurement. Code may print it; prose may not state it.
MEASURED = re.compile(
    r"\d ?%|\b0\.\d{3,}\b|\b0\.[3-9]\d\b|\b\d+ ?(?:ms|s|seconds) (?:per|for|an)\b"
    r"|\b\d+ of (?:the )?\d+ (?:images|starts|runs|networks)\b|\b\d+(?:\.\d+)? times (?:as|longer|faster|more)\b"
)
# Cells whose numbers are set by the question, or quoted from a source.
GIVEN = {
    "baseline-before", "exercise-baseline", "exercise-overfit", "bn-inference-before", "exercise-moving",
    "exercise-deep-network", "agree-before", "exercise-interval", "verdict-before",
    "exercise-by-luck", "reported-before", "bar-before", "others-after", "exercise-rounding", "main-after",
}  # fmt: skip
WIDEST = 105  # characters that JupyterLab shows in a window of 1280 pixels
# Cells that would be too long if their widest line were wrapped.
WIDER = {"source-b-build": 109, "row-network": 109, "row-load": 109}


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def lab(path):
    return nbformat.read(path, as_version=4)


def code_cells(lab):
    return [cell for cell in lab.cells if cell.cell_type == "code"]


def markdown_cells(lab):
    return [cell for cell in lab.cells if cell.cell_type == "markdown"]


def headings(lab):
    return [line for cell in markdown_cells(lab) for line in cell.source.splitlines() if re.match(r"#+ ", line)]


def test_there_are_labs():
    assert len(PATHS) >= 3


def test_valid_and_of_the_current_format(path):
    raw = json.loads(path.read_text("utf-8"))
    assert (raw["nbformat"], raw["nbformat_minor"]) == (4, 5)
    nbformat.validate(raw)


def test_ids_are_unique_and_descriptive(lab):
    ids = [cell.id for cell in lab.cells]
    assert len(set(ids)) == len(ids)
    for name in ids:
        # Ids that a program made up are eight hexadecimal digits or a UUID.
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name), name
        assert not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f-]+)?", name), name


def test_executed_once_from_top_to_bottom(lab):
    # nbval does not compare a cell that has no execution count.
    counts = [cell.execution_count for cell in code_cells(lab)]
    assert counts == list(range(1, len(counts) + 1))


def test_no_warnings_or_errors_are_stored(lab):
    for cell in code_cells(lab):
        for output in cell.outputs:
            assert output.output_type != "error", cell.id
            assert output.get("name") != "stderr", (cell.id, output.text)
            assert "WARNING" not in output.get("text", ""), (cell.id, output.text)  # some are written to stdout


def test_small_enough(path):
    assert path.stat().st_size < 1_000_000


def test_no_leftovers_in_the_metadata(lab):
    assert set(lab.metadata) == {"kernelspec", "language_info", "labkit"}
    assert lab.metadata.kernelspec.name == "python3"
    assert lab.metadata.labkit.minutes > 0
    for cell in lab.cells:
        assert set(cell.metadata) <= {"tags", "nbval-ignore-reason"}, cell.id


def test_few_outputs_go_uncompared_and_each_says_why(lab):
    ignored = [cell for cell in lab.cells if IGNORE in cell.metadata.get("tags", [])]
    assert len(ignored) <= MOST_IGNORED
    for cell in lab.cells:
        assert (cell in ignored) == bool(cell.metadata.get("nbval-ignore-reason")), cell.id
        assert not re.search("NBVAL_(IGNORE|SKIP|RAISES)", cell.source), "tags, not comments, so that they are counted"
        assert set(cell.metadata.get("tags", [])) <= {IGNORE, "study"}, cell.id
    for cell in ignored:
        assert "claim(" not in cell.source, f"{cell.id}: a claim's line is the same on every machine, so compare it"


def test_figures_have_alt_text(lab):
    texts = []
    for cell in code_cells(lab):
        for output in cell.outputs:
            assert "image/png" not in output.get("data", {}), f"{cell.id}: no reader of JupyterLab gets its text"
            for alt in re.findall(r'<img alt="([^"]*)"', output.get("data", {}).get("text/html", "")):
                texts.append(alt)
                assert len(alt) > 20, cell.id
                assert not MEASURED.search(alt), cell.id
                assert "no title or labels" not in alt, cell.id
    assert len(texts) == len(set(texts)), "each figure shows something of its own"


def test_a_page_of_a_lab_misses_no_alt_text(path, caplog):
    from nbconvert import HTMLExporter

    page, _ = HTMLExporter(template_name="lab").from_filename(str(path))
    assert "No description has been provided" not in page
    assert "lternative text is missing" not in caplog.text


def test_no_measured_numbers_in_prose(lab):
    for cell in markdown_cells(lab):
        assert cell.id in GIVEN or not MEASURED.search(cell.source), (cell.id, MEASURED.search(cell.source))


def test_the_rule_against_measured_numbers_catches_them():
    for sentence in (
        "It reaches 97.23% of them.",
        "It reaches 97% of them.",
        "an accuracy of 0.97",
        "The loss falls to 0.0914.",
        "It takes 12 s per epoch.",
        "378 of 500 starts learn it.",
        "training is 2.4 times faster",
    ):
        assert MEASURED.search(sentence)
    for sentence in ("A learning rate of 0.01", "half of the squared error, 0.5", "always 90 of 100"):
        assert not MEASURED.search(sentence)


def test_opening(lab):
    first = lab.cells[0].source
    title, *rest = first.splitlines()
    assert re.match(r"# [A-Z][a-z]+ ", title)
    parts = ["**What you'll do.**", "**What you'll learn**", "**What you'll need.**", "---"]
    at = [first.index(part) for part in parts]
    assert at == sorted(at)
    bullets = [line for line in rest if line.startswith("- ")]
    assert 3 <= len(bullets) <= 5
    assert not [line for line in bullets if line.startswith("- about")]
    do = first.split(parts[0])[1].split(parts[1])[0].strip()
    assert do.count(". ") == 0, "one sentence"
    assert re.search(r"In this (lab|course)", lab.cells[1].source)


def test_closing(lab):
    sections = [line.removeprefix("## ") for line in headings(lab) if line.startswith("## ")]
    assert sections[-4:] == CLOSING
    summary = next(cell.source for cell in lab.cells if cell.source.startswith("## Summary"))
    assert 2 <= len([line for line in summary.splitlines() if line.startswith("- ")]) <= 4
    assert re.search(r"\b(19|20)\d\d\b", lab.cells[-1].source), "papers, with year"


def test_one_title(lab):
    assert len([line for line in headings(lab) if line.startswith("# ")]) == 1


def test_cells_are_short(lab):
    for cell in code_cells(lab):
        lines = cell.source.splitlines()
        assert len(lines) <= 18, cell.id
        assert max(map(len, lines)) <= WIDER.get(cell.id, WIDEST), f"{cell.id}: wider than JupyterLab shows"


def test_no_semicolons(lab):
    # They hide an expression's value in JupyterLab, but not under nbval: assign it instead.
    for cell in code_cells(lab):
        assert not cell.source.rstrip().endswith(";"), cell.id


def test_exercises_are_numbered_and_known(lab, path):
    numbers = [re.match(r"### Exercise (\d+)\.(\d+): ", line) for line in headings(lab) if "Exercise" in line]
    number = int(path.name[:2])
    assert [(int(m[1]), int(m[2])) for m in numbers] == [(number, i + 1) for i in range(len(numbers))]
    names = [name for name, _ in calls(lab, "check")]
    assert len(names) == len(numbers)
    if names:
        core._find(core.exercises, names[0], "exercise")  # loads the lab's exercises
    assert sorted(names) == sorted(name for name in core.exercises if name.startswith(path.name[:2]))


def test_checks_give_the_facts_that_judges_ask_for(lab):
    for name, call in calls(lab, "check"):
        given = {keyword.arg for keyword in call.keywords}
        wanted = set(inspect.signature(core._find(core.exercises, name, "exercise").judge).parameters) - {"answer"}
        assert given == wanted, name


def test_each_prediction_is_made_before_it_is_revealed(lab, path):
    importlib.import_module(f"labkit.exercises.lab{path.name[:2]}")
    predicted = [name for name, _ in calls(lab, "predict")]
    assert predicted == [name for name, _ in calls(lab, "reveal")]
    source = "\n".join(cell.source for cell in code_cells(lab))
    for name in predicted:
        assert source.index(f'predict("{name}"') < source.index(f'reveal("{name}"'), name
    assert sorted(predicted) == sorted(name for name in core.predictions if name.startswith(path.name[:2]))


def test_answers_are_left_to_students(lab):
    for cell in code_cells(lab):
        asked = re.findall(r'(?:check|predict)\("[\w.-]+", (\w+)', cell.source)
        assert len(asked) == len(re.findall(r"(?<![.\w])(?:check|predict)\(", cell.source)), cell.id
        for name in asked:
            assert re.search(rf"^{name} = \.\.\.$|^def {name}\(.*\):\n    return \.\.\.$", cell.source, re.M), cell.id


def test_labs_with_networks_make_claims(lab, path):
    claims = sum(output.text.count("✓ ") for c in code_cells(lab) for output in c.outputs if "text" in output)
    assert claims >= (0 if path.name.startswith("00") else 10)


def test_no_paths_of_a_machine(path):
    text = path.read_text("utf-8")
    traces = r"/home/|/Users/|/root/|/tmp/|[A-Z]:\\\\|\.venv|site-packages|Traceback|" + re.escape(str(ROOT))
    assert not re.search(traces, text), re.search(traces, text)


def calls(lab, function):
    """The calls of `function` in a lab, as (first argument, call)."""
    for cell in code_cells(lab):
        source = re.sub(r"^(\s*)%.*$", r"\1pass", cell.source, flags=re.M)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == function:
                yield ast.literal_eval(node.args[0]), node
