"""The guide: a cell that lacks what an earlier one makes says which cell to run first."""

import ast
import builtins
import os
import re
import subprocess
import symtable
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from labkit import cli, guide, runner

LABS = sorted(runner.NOTEBOOKS.glob("*.ipynb"))
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
MENU = "menu Run, Run All Above Selected Cell"


# ---- every name of every lab -------------------------------------------------------------------------------


def python(source):
    return re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.M)


def global_names(source):
    """Names that a cell binds, and those that it or its functions take from elsewhere, by Python's symbol tables."""
    top = symtable.symtable(python(source), "cell", "exec")
    bound = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    used, tables = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_referenced()}, top.get_children()
    while tables:
        table = tables.pop()
        used |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global() and symbol.is_referenced()}
        tables += table.get_children()
    return bound, {name for name in used if not hasattr(builtins, name)}


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_each_name_that_a_cell_needs_is_explained(path):
    cells = guide.read_notebook(path)
    bound_before, explained, last = set(), 0, len(cells) - 1
    for at, cell in enumerate(cells):
        bound, used = global_names(cell.source)
        assert not used - bound - cell.now - cell.later, cell.id
        # What a function takes may be made after the function, but before it is called.
        for name in {*(used & bound_before - bound), *(cell.now | cell.later)}:
            shown = on_missing(cells, at if name in bound_before else last, name)
            maker = made_by(cells, shown)
            assert name in global_names(maker.source)[0], (cell.id, shown)
            assert shown.startswith(f"`{name}` is not there yet: ")
            assert max(map(len, re.findall(r"`(.*?)`", shown))) <= guide.LONGEST
            assert (
                "Run that cell first" in shown
                or f"Begin with the set-up cell, the first one with code; or run everything above: {MENU}." in shown
                or "Begin with that cell" in shown
            ), shown
            explained += 1
        bound_before |= bound
    assert explained >= len(cells) / 2


def on_missing(cells, at, name):
    """What the guide says if this cell fails for want of this name, in a kernel that has run nothing."""
    one = guide.Guide(type("Shell", (), {"execution_count": 1}))
    one._place = lambda names: (cells, at)
    return one._on_name(name, {})


def made_by(cells, shown):
    """The one cell that a sentence describes, found as a student would."""
    if "made further up, by the set-up cell" in shown:
        return cells[0]
    verb, line, section = re.search(
        r"by the cell (that begins|with the line) `(.*?)`, in the section “(.*?)”[.]", shown
    ).groups()
    line = line.removesuffix("…")
    there = [cell for cell in cells if cell.section == section]
    if verb == "that begins":
        (found,) = [cell for cell in there if cell.source.startswith(line)] or [None]
    else:
        (found,) = [cell for cell in there if line in cell.source]
    return found


def test_the_cells_that_one_builds_on_are_those_that_it_reads():
    lab = {path.name[:2]: guide.read_notebook(path) for path in LABS}
    builds_on = {
        (number, cell.id): {cells[i].id for i in guide.needed(cells, at)}
        for number, cells in lab.items()
        for at, cell in enumerate(cells)
    }
    assert builds_on["01", "softmax-train"] == {"constants", "data", "unpack", "softmax-build"}
    # Through what was attached to a class, and what that takes in turn.
    assert {"sigmoid", "network-init", "network-forward"} <= builds_on["06", "claim-gradient"]
    # What is stored under a key, in cells far apart.
    assert {"chart-1", "chart-6", "chart-10"} <= builds_on["08", "claim-flat"]
    assert "exercise-1-answer" not in builds_on["08", "chart-2"]
    # What a function takes may be made after the function, as long as that is before it is called.
    cells = [guide.read_cell("c", source) for source in ("def f(): return made", "made = 1", "f()")]
    assert guide.needed(cells, 2) == {0, 1}
    # To call a function of a module does not change the module.
    assert "pair-curves" not in builds_on["01", "sweep-plot"]


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_who_runs_what_a_cell_builds_on_can_run_it(path):
    cells = guide.read_notebook(path)
    for at, cell in enumerate(cells):
        there = set()
        for i in [*sorted(guide.needed(cells, at)), at]:
            assert cells[i].now <= there, (cell.id, cells[i].id)
            there |= cells[i].makes.keys()


@pytest.mark.parametrize(
    ("source", "makes", "now", "later"),
    [
        ("import os.path as p, sys\nfrom a import b as c", "p sys c", "", ""),
        ("for i, (j, *k) in enumerate(rows): pass\nwith open(f) as g: h = 1", "i j k g h", "rows f", ""),
        ("def f(x, y=z):\n    w = x + v\n    return w", "f", "z", "v"),
        ("class A(B):\n    c = d\n    e = c\n    def g(self): return h", "A", "B d", "h"),
        ("a = b\nb = 1\nc = [e * b for e in a]", "a b c", "b", ""),
        ("print([x for x in y if (z := x)])", "z", "y", ""),
        ("a = 1\nb = [a for _ in 'ab']\nclass C:\n    d = a", "a b C", "", ""),
        ("total += 1\nrows |= {}", "total rows", "total rows", ""),
        ("a = lambda: b\nb = 2", "a b", "", ""),
        ("def f():\n    global n\n    n = m", "f n", "", "m"),
        ("await job()", "", "job", ""),
        ("%pip install x\nfiles = !ls\nos?", "files", "", ""),
        ("this is no Python", "", "", ""),
    ],
)
def test_what_a_cell_makes_and_needs(source, makes, now, later):
    cell = guide.read_cell("c", source)
    assert (set(cell.makes), cell.now, cell.later) == (set(makes.split()), set(now.split()), set(later.split()))


# ---- in a kernel -------------------------------------------------------------------------------------------


class Kernel:
    """A kernel of this Python in `folder`, to which cells are sent as JupyterLab sends them."""

    def __init__(self, folder, **environment):
        from jupyter_client import KernelManager

        manager = runner.kernel_manager().kernel_spec_manager
        self.manager = KernelManager(kernel_spec_manager=manager)
        environ = {key: value for key, value in os.environ.items() if key != "JPY_SESSION_NAME"}
        self.manager.start_kernel(env=environ | environment, cwd=str(folder), stderr=subprocess.DEVNULL)
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(60)

    def run(self, source, cell_id=None):
        """Run a cell. Returns what it printed, and the error message or None.

        shown: what the student sees of the error, each paragraph as one line. widest: characters of its longest line.
        """
        content = {"code": source, "silent": False, "store_history": True, "stop_on_error": False}
        sent = self.client.session.msg("execute_request", content, metadata={"cellId": cell_id} if cell_id else {})
        self.client.shell_channel.send(sent)
        text, error = "", None
        while True:
            message = self.client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") != sent["header"]["msg_id"]:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                text += content["text"]
            elif kind == "error":
                lines = COLOURS.sub("", "\n".join(content["traceback"]))
                shown = re.sub(r"(?<!\n)\n(?!\n)", " ", lines)
                error = content | {"shown": shown, "widest": max(map(len, lines.split("\n")))}
            elif kind == "status" and content["execution_state"] == "idle":
                return text, error

    def shows(self, source, cell_id=None):
        """What the student sees of the error of this cell."""
        return self.run(source, cell_id)[1]["shown"]

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


CELLS = {
    "set-up": "SEED = 1",
    "build": "\n# A comment\nmodel = [SEED]",
    "keys": "results = {}",
    "store": "results['a'] = model[0]",
    "attribute": "class Net: pass\nnet = Net()",
    "method": "Net.forward = lambda self: 1",
    "use": "print(model, results['a'], net.forward())",
    "numbers": "numbers = [1, 2]",
    "index": "numbers[7]",
    "twin-1": "answer = ...\nfirst = 1",
    "twin-2": "answer = ...\nsecond = 2",
    "both": "first + second",
    "deferred": "def f(): return later_made",
    "later": "later_made = 3",
    "calls": "f()",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a small lab and another notebook."""
    folder = tmp_path_factory.mktemp("labs")
    cells = [new_code_cell(source, id=name) for name, source in CELLS.items()]
    cells.insert(1, new_markdown_cell("## Build *it*\n\n```\n# no heading\n```", id="heading"))
    nbformat.write(new_notebook(cells=cells), folder / "02_lab.ipynb")
    other = [new_code_cell("SEED = 1", id="set-up"), new_code_cell("model = 2\nresults = 0", id="other")]
    nbformat.write(new_notebook(cells=other), folder / "01_other.ipynb")
    (folder / "03_broken.ipynb").write_text("<<<<<<<", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def shared(folder):
    environment = guide.startup_settings({}) | {"JPY_SESSION_NAME": str(folder / "02_lab.ipynb")}
    kernel = Kernel(folder, **environment)
    yield kernel
    kernel.close()


@pytest.fixture
def kernel(shared):
    shared.run("%reset -f\nget_ipython().run_line_magic('xmode', 'Context')")
    return shared


def lab(kernel, *names):
    """Run these cells of the small lab, and return what is shown of the last one's error."""
    *before, last = names
    for name in before:
        assert kernel.run(CELLS[name], name)[1] is None
    return kernel.run(CELLS[last], last)[1]


def test_in_a_fresh_kernel_the_first_cell_to_run_is_named_and_the_error_stays_one(kernel):
    error = lab(kernel, "use")
    assert error["shown"] == (
        "`model` is not there yet: it is made further up, by the cell that begins `# A comment`, in the section "
        f"“Build *it*”. Begin with the set-up cell, the first one with code; or run everything above: {MENU}."
    )
    assert (error["ename"], error["evalue"]) == ("NameError", "name 'model' is not defined")
    assert error["widest"] <= 96 < len(error["shown"])  # what JupyterLab shows without breaking words


def test_a_lab_says_what_to_run_until_the_cell_works(kernel):
    assert "by the cell that begins `# A comment`" in lab(kernel, "set-up", "store")["shown"]
    assert "`results` is not there yet" in lab(kernel, "build", "store")["shown"]
    assert lab(kernel, "keys", "store") is None
    shown = lab(kernel, "use")["shown"]
    assert shown.startswith("`net` is not there yet") and shown.endswith("Run that cell first, then this one again.")
    shown = lab(kernel, "attribute", "use")["shown"]
    assert shown.startswith("`forward` is not there yet: it is made further up, by the cell that begins `Net.forward")
    assert shown.endswith("Run that cell first, then this one again.")
    assert lab(kernel, "method", "use") is None


def test_a_missing_key_is_explained_by_the_cell_that_stores_it(kernel):
    kernel.run("1 / 0", "store")  # what failed half-way has not been run
    error = lab(kernel, "set-up", "build", "keys", "attribute", "method", "use")
    assert error["ename"] == "KeyError"
    assert error["shown"].startswith("`a` is not there yet: it is made further up, by the cell that begins `results[")


def test_another_error_keeps_its_stack_trace_and_says_what_was_not_run(kernel):
    shown = kernel.shows("numbers = []\nnumbers[7]\nfirst", "index")
    assert "Traceback" in shown and "IndexError: list index out of range" in shown
    assert shown.endswith("This cell builds on one that has not been run: the set-up cell, the first one with code. "
                          "Run that cell first.")  # fmt: skip
    shown = lab(kernel, "set-up", "numbers", "index")["shown"]
    assert shown.endswith("IndexError: list index out of range")


def test_a_cell_that_begins_like_another_is_told_by_its_line(kernel):
    shown = lab(kernel, "set-up", "twin-1", "both")["shown"]
    assert "by the cell with the line `second = 2`, in the section" in shown


def test_what_a_function_takes_is_made_before_it_is_called(kernel):
    shown = lab(kernel, "set-up", "deferred", "calls")["shown"]
    assert shown.startswith("`later_made` is not there yet: it is made further up, by the cell that begins `later_made")


def test_a_cell_that_was_edited_or_is_not_saved_yet_is_explained_too(kernel):
    assert "`model` is not there yet" in kernel.shows("print(model)  # edited", "use")
    assert "`model` is not there yet" in kernel.shows("print(model)", "new-and-not-in-the-file")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("modle", "modle"),  # made by no cell
        ("print(later_made)", "later_made"),  # made by a later cell only
        ("def g():\n    print(model)\n    model = 1\ng()", "model"),  # the function's own
        ("def g():\n    def h(): return model\n    h()\n    model = 1\ng()", "model"),  # the function's around it
        ("exec('model', {})", "model"),  # not the notebook's
    ],
)
def test_other_name_errors_keep_their_stack_trace(kernel, source, name):
    error = kernel.run(source, "store")[1]
    assert "Traceback" in error["shown"] and name in error["evalue"]
    assert "not there yet" not in error["shown"] and "has not been run" not in error["shown"]


def test_lab_errors_are_one_sentence_and_say_what_was_not_run(kernel):
    claim = "from labkit.claims import claim\nclaim('Pigs fly', False)"
    assert lab(kernel, "set-up", "build") is None
    error = kernel.run(claim, "build")[1]
    assert (error["ename"], error["shown"]) == ("ClaimFailed", "ClaimFailed: Pigs fly")
    kernel.run("%reset -f")
    assert re.fullmatch(r"This cell builds on one .*Run that cell first\.\n\nClaimFailed: Pigs fly",
                        kernel.shows(claim, "build"))  # fmt: skip
    error = kernel.run("from labkit.exercises import hint\nhint('06.nonsense')", "set-up")[1]
    shown = error["shown"]
    assert error["widest"] <= 96 < len(shown)
    assert shown.startswith("LabError: There is no exercise '06.nonsense'.") and "Traceback" not in shown


def test_what_labkit_refuses_is_one_sentence_and_its_own_mistakes_are_not(kernel):
    error = kernel.run("from labkit.claims import claim\nclaim('It is', 3)", "set-up")[1]
    assert error["ename"] == "TypeError" and error["shown"].startswith("TypeError: The condition of a claim is")
    assert "\n" not in error["shown"]
    assert "Traceback" in kernel.shows("claim('no condition')", "set-up")
    assert "Traceback" in kernel.shows("from labkit import runner\nrunner.find_labs(5)", "set-up")


def test_the_stack_trace_can_still_be_had(kernel):
    assert "Traceback" not in lab(kernel, "use")["shown"]
    assert "Traceback" in kernel.shows("%tb")


def test_nothing_wrong_with_the_guide_hides_an_error(kernel):
    breaks = "from labkit import guide as _g\n_kept = _g.read_notebook\n_g.read_notebook = None"
    assert kernel.run(breaks)[1] is None
    try:
        shown = lab(kernel, "use")["shown"]
        assert "Traceback" in shown and "NameError: name 'model' is not defined" in shown
        assert "read_notebook" not in shown
    finally:
        kernel.run("_g.read_notebook = _kept")
    assert "not there yet" in lab(kernel, "use")["shown"]


def test_the_kernel_starts_with_no_new_names_and_nothing_slow(folder, tmp_path):
    own = tmp_path / "own.py"
    own.write_text("mine = 'kept'\n", encoding="utf-8")
    kernel = Kernel(folder, **guide.startup_settings({"PYTHONSTARTUP": str(own)}))
    try:
        names = ast.literal_eval(kernel.run("print(dir())")[0])
        ipythons = r"In|Out|exit|quit|open|get_ipython|_+|_(i|ii|iii|ih|oh|dh|i1)|__\w+__"
        assert [name for name in names if not re.fullmatch(ipythons, name)] == ["mine"]
        slow = "import sys; print(mine, {'numpy', 'keras', 'labkit.runner', 'labkit.session'} & {*sys.modules})"
        assert kernel.run(slow)[0] == "kept set()\n"
        # Without JupyterLab's help, the notebook is found by what was run of it.
        assert kernel.run("SEED = 1")[1] is None
        assert "Begin with that cell" in kernel.shows(CELLS["use"])
    finally:
        kernel.close()


def test_it_can_be_switched_on_later_and_twice(folder):
    kernel = Kernel(folder, JPY_SESSION_NAME=str(folder / "02_lab.ipynb"))
    try:
        assert "Traceback" in lab(kernel, "use")["shown"]
        assert lab(kernel, "set-up") is None
        ours = "def ours(shell, *_, **__): print('ours')\nget_ipython().set_custom_exc((KeyError,), ours)"
        assert kernel.run(f"{ours}\nfrom labkit import guide\nguide.switch_on()\n{{}}[1]")[0] == "ours\n"
        kernel.run("get_ipython().set_custom_exc((), None)")  # somebody else's handler stays until it is taken away
        assert kernel.run("guide.switch_on()\nguide.switch_on()")[1] is None
        assert "Begin with that cell" in lab(kernel, "use")["shown"]  # what ran before counts as run
    finally:
        kernel.close()


def test_switching_on_costs_little():
    # In a kernel, IPython has imported its own; what comes on top is the guide's.
    code = (
        "import IPython, sys\nbefore = set(sys.modules)\n"
        "from labkit import guide\nguide.switch_on()\n"
        "print(*set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"labkit", "labkit.errors", "labkit.guide"}


# ---- who switches it on ------------------------------------------------------------------------------------


def test_labs_open_switches_it_on_and_keeps_the_users_own_startup(monkeypatch):
    from jupyterlab.labapp import LabApp

    seen = []
    monkeypatch.setattr(LabApp, "launch_instance", lambda arguments: seen.append(dict(os.environ)))
    monkeypatch.setattr(os, "environ", {})
    assert cli.main(["open", "6"]) == 0
    assert seen[0]["PYTHONSTARTUP"] == str(guide.STARTUP) and guide.STARTUP.is_file()
    assert guide.startup_settings(seen[0]) == {"PYTHONSTARTUP": str(guide.STARTUP)}
    own = guide.startup_settings({"PYTHONSTARTUP": "/mine.py"})
    assert own == {"PYTHONSTARTUP": str(guide.STARTUP), "LABKIT_NEXT_STARTUP": "/mine.py"}


@pytest.mark.skipif(os.name == "nt", reason="Binder runs on Linux")
@pytest.mark.parametrize("own", ["", "/mine.py"])
def test_binder_switches_it_on(own, tmp_path):
    ask = [runner.ROOT / "binder" / "start", sys.executable, "-c", "import os; print(os.environ['PYTHONSTARTUP'])"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSTARTUP"}
    environment |= {"PYTHONSTARTUP": own} if own else {}
    done = subprocess.run(ask, env=environment, cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout.decode().strip() == (own or str(guide.STARTUP))


def test_the_startup_file_does_no_harm_where_there_is_no_labkit(tmp_path):
    own = tmp_path / "own.py"
    own.write_text("print('own', __name__)\n", encoding="utf-8")
    code = (
        "import sys; sys.modules['labkit'] = None; before = set(dir())\n"
        f"exec({guide.STARTUP.read_text('utf-8')!r})\nprint(set(dir()) - before - {{'before'}})"
    )
    environment = os.environ | {"LABKIT_NEXT_STARTUP": str(own)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["own __main__", "set()"] and done.stderr == ""


def test_a_startup_file_of_another_copy_of_the_course_is_run_once(tmp_path, monkeypatch):
    copy = tmp_path / "labkit" / "startup.py"
    copy.parent.mkdir()
    copy.write_text(guide.STARTUP.read_text("utf-8") + "\nruns = globals().get('runs', 0) + 1\n", "utf-8")
    monkeypatch.setenv("LABKIT_NEXT_STARTUP", str(copy))
    names = {}
    exec(compile(guide.STARTUP.read_text("utf-8"), "startup.py", "exec"), names)
    assert names["runs"] == 1
    assert os.environ["LABKIT_NEXT_STARTUP"] == str(copy)
