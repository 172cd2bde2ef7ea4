"""A NameError says which cell makes the name: what a cell makes, and in a real kernel, which one is named and when."""

import builtins
import os
import subprocess
import symtable

import nbformat
import pytest
from jupyter_client import KernelManager
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from labkit import names
from labtools import project, run


@pytest.mark.parametrize(
    ("source", "made"),
    [
        ("import os.path as p, sys, a.b\nfrom c import d as e", "p sys a e"),
        ("for i, (j, *k) in rows:\n    with open(f) as g: h = 1", "i j k g h"),
        ("def f(x):\n    global n\n    n = x\n    local = 1\nclass C:\n    inside = 1", "f n C"),
        ("a = [e for e in b]\nprint({k: v for k, v in c}, [z for x in y if (z := x)])", "a z"),
        ("%%time\nf = lambda x: (y := x)\nt: int\nu: int = 1", "f u"),
        ("try:\n    a = 1\nexcept E as error:\n    b = 1", "a b"),
        ("a = b = 1\ndel a, c[0]\ndel d\nd = 2", "b d"),
        ("r = await job()\nasync for row in rows: pass", "r row"),
        ("%pip install x\nfiles = !ls\nos?\n%time a = 1\nprint('%d'\n% a)", "files a"),
        ("%%writefile a.py\na = 1", ""),
        ("this is no Python", ""),
    ],
)
def test_what_a_cell_leaves_behind(source, made):
    assert names.Cell(source).made == set(made.split())


@pytest.mark.parametrize("path", project.find_labs(), ids=lambda path: path.stem)
def test_each_name_that_a_lab_uses_is_made_by_a_cell(path):
    cells = names.read(path)
    made = set().union(*(cell.made for cell in cells), dir(builtins), ["display"])
    for cell in cells:
        tables = [symtable.symtable(cell.source.replace("%pip", "# "), "cell", "exec")]
        for table in tables:  # which grows
            tables += table.get_children()
            assert {s.get_name() for s in table.get_symbols() if s.is_global() and not s.is_assigned()} <= made


LAB = {"set-up": "from labkit import names\nnames.explain_name_errors()\ndef f(): return model",
       "first": "model = 1", "build": "\n# A comment\nmodel = 2", "use": "late", "last": "late = 1"}  # fmt: skip


@pytest.fixture
def shown(tmp_path):
    """A function that runs a cell in a copy of a lab, as JupyterLab does. It returns the printed text and the error."""
    cells = [new_code_cell(source, id=name) for name, source in LAB.items()]
    cells.insert(1, new_markdown_cell("## Build *it*\n\n```\n# no heading\n```"))
    path = tmp_path / "06_scratch_xor-Copy1.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    manager = KernelManager(kernel_spec_manager=run.kernel_manager().kernel_spec_manager)
    manager.start_kernel(env=os.environ | {"LABKIT_LIVE": "", "JPY_SESSION_NAME": str(path)}, stderr=subprocess.DEVNULL)
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(60)

    def send(source, name=None):
        content = {"code": source, "silent": False, "store_history": True}
        sent = client.session.msg("execute_request", content, metadata={"cellId": name} if name else {})
        client.shell_channel.send(sent)
        text, error = "", None
        while True:
            message = client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") == sent["header"]["msg_id"]:
                text, error = text + message["content"].get("text", ""), message["content"].get("ename", error)
                if message["content"].get("execution_state") == "idle":
                    return text.strip(), error

    yield send
    client.stop_channels()
    manager.shutdown_kernel(now=True)


SLIPS = ("modle", "late", "def g():\n    print(model)\n    model = 1\ng()", "exec('model', {})",
         "def g():\n    def h(): return model\n    h()\n    model = 1\ng()", "raise NameError('model')")  # fmt: skip


@pytest.mark.slow
def test_in_a_kernel_the_nearest_cell_above_is_named_and_a_slip_of_the_students_is_not(shown):
    build = ("`model` is made by the cell that begins `# A comment`, in the section “Build *it*”. "
             "Run that cell first, then this one again.", "NameError")  # fmt: skip
    assert shown("model") == ("", "NameError") and shown(LAB["set-up"]) == ("", None)
    # As it is saved; changed in place since; new, and not saved yet; in a function of another cell; deleted.
    assert shown("model", "use") == shown("print(model)", "use") == shown("[model]") == build
    assert shown("f()", "use") == shown("model = 3; del model; model", "use") == build
    assert "`model = 1`" in shown("model", "build")[0], "the nearest above, not below"
    assert {shown(slip, "use")[0] for slip in SLIPS} | {shown("late")[0]} == {""}
    assert shown("np", "use")[0].startswith("`np` is made by a cell that was deleted: the cell that begins `import num")
    assert shown("%env JPY_SESSION_NAME away") and shown("model") == ("", "NameError")
