"""A student who answers everything: labs run from top to bottom with every answer filled in, in strict mode."""

import nbformat
import pytest

from labkit import runner

# Cell id -> what the student types in place of the cell. Lab 01 trains for a minute; its checkers are tested
# without it, in test_exercises.py.
MEND = '''class Mended(Network):
    def backward(self, x, y):
        output = (self.output - y) * self.output * (1 - self.output)
        hidden = (output @ self.w_output.T) * self.hidden * (1 - self.hidden)
        return {
            "w_hidden": x.T @ hidden,
            "w_output": self.hidden.T @ output,
            "b_hidden": hidden.sum(axis=0),
            "b_output": output.sum(axis=0),
        }


answer = Mended
check("06.mend", answer)'''
ANSWERS = {
    "00_index": {"exercise-pixels-answer": 'check("00.pixels", 28 * 28)'},
    "06_scratch_xor": {
        "exercise-separable-answer": 'from labkit.exercises import check\ncheck("06.separable", 14)',
        "exercise-count-answer": 'check("06.count", 11)',
        "exercise-zero-answer": 'check("06.zero", (1 / 2, 1 / 8))',
        "exercise-mend-answer": MEND,
        "exercise-by-hand-answer": 'w = np.array([[9, 9], [9, 9], [-4, -13]])\n'
        'check("06.by-hand", (w, np.zeros(2), np.array([[9], [-9]]), np.array([-4])))',
        "starts-predict": 'from labkit.exercises import predict\npredict("06.success", 0.5)',
        "exercise-plateau-answer": "def plateau(ones, rows):\n    return ones * (1 - ones / rows) / 8\n\n\n"
        'check("06.plateau", plateau)',
    },
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_a_lab_with_every_answer_runs_in_strict_mode(name, tmp_path, monkeypatch):
    lab = nbformat.read(runner.NOTEBOOKS / f"{name}.ipynb", as_version=4)
    asking = [c for c in lab.cells if c.cell_type == "code" and ("check(" in c.source or "predict(" in c.source)]
    assert {cell.id for cell in asking} == set(ANSWERS[name])
    for cell in asking:
        cell.source = ANSWERS[name][cell.id]
    nbformat.write(lab, tmp_path / f"{name}.ipynb")
    monkeypatch.setenv("LABKIT_STRICT", "1")
    (result,) = runner.run([tmp_path / f"{name}.ipynb"], jobs=1, report=lambda _: None)
    assert result.failure is None
    assert result.cells == len([cell for cell in lab.cells if cell.cell_type == "code"])


def test_strict_mode_stops_a_lab_at_its_first_open_question(monkeypatch):
    monkeypatch.setenv("LABKIT_STRICT", "1")
    (result,) = runner.run(runner.find_labs(["00"]), jobs=1, report=lambda _: None)
    assert "exercise-pixels-answer" in result.failure
    assert "not answered yet" in result.failure
