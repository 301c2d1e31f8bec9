"""In examples/batchnorm_questions.py, each answer's evidence says what the answer says."""

import importlib
import inspect
import re
import sys
from pathlib import Path

import numba
import pytest

for needed in ("sklearn", "matplotlib", "tqdm"):
    pytest.importorskip(needed)

EXAMPLES = Path(__file__).parents[2] / "examples"
jit_only = pytest.mark.skipif(
    bool(numba.config.DISABLE_JIT), reason="hundreds of training steps, slow as Python"
)


@pytest.fixture
def page(monkeypatch):
    limits = importlib.import_module("threadpoolctl")  # comes with scikit-learn
    monkeypatch.syspath_prepend(str(EXAMPLES))
    # On a busy machine BLAS threads that wait for each other take ten times as long.
    with limits.threadpool_limits(1):
        yield importlib.import_module("batchnorm_questions")


@pytest.fixture
def evidence(page, capsys):
    """Return what the question of this name prints, as a text and as numbers line by line."""

    def answer(name):
        (question,) = [q for q in page.QUESTIONS if q.__name__ == name]
        question()
        text = capsys.readouterr().out
        return text, [numbers(line) for line in text.splitlines()]

    return answer


def numbers(line):
    return [float(v) for v in re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[-+]?\d+)?", line)]


def test_by_hand(evidence):
    text, lines = evidence("by_hand")
    assert re.findall(r"^\w+", text, re.M) == ["y", "dx", "dgamma", "dbeta"]
    assert all(line[-1] < 1e-13 for line in lines)


def test_hyperparameters_and_shapes(evidence):
    text, _ = evidence("hyperparameters")
    assert "learnt:   weight, bias\n" in text
    assert "running_mean, running_var" in text and "eps=1e-05, momentum=0.1" in text
    text, lines = evidence("initial_values")
    assert "weight shape (64,), from 1 to 1\n" in text
    assert "bias   shape (64,), from 0 to 0\n" in text
    assert lines[-1][-1] < 1e-13
    text, _ = evidence("one_for_each_layer")
    shapes = dict(re.findall(r"^(\d\.\w+) +BatchNorm1d +\((\d+),\)", text, re.M))
    assert shapes == {"1.weight": "128", "1.bias": "128", "4.weight": "64", "4.bias": "64"}
    assert "(8, 10) (64, 10)" in text and "BatchNorm2d(16): (16,)" in text


def test_made_in_forward_they_learn_nothing(evidence):
    _, (layer, forgetful) = evidence("constructor")
    assert layer[1] < 0.99 < 1.01 < layer[2] and forgetful[1:3] == [1, 1]
    assert layer[-1] - forgetful[-1] == 2 * 64


def test_derivatives_sum_and_updates(evidence):
    _, (_, *rows) = evidence("derivatives")
    assert len(rows) == 6
    for formula, derived, difference in rows:
        assert formula == derived != 0 and abs(difference - formula) <= 1.1e-5
    text, lines = evidence("sum_over_the_batch")
    assert "(64, 64), gamma (64,)" in text
    engine, by_sum, by_mean, first = (line[-1] for line in lines[2:])
    assert max(engine, by_sum) < 1e-6 and min(by_mean, first) > 0.5
    _, (gamma, beta, (before, after)) = evidence("updates")
    assert gamma[0] < 1e-15 and beta[0] < 1e-15 and after < before - 0.05


def test_eps_bias_and_paths(evidence):
    _, ((_, constant, features), (nan, _), (finite,), (_, of_constant)) = evidence(
        "what_eps_is_for"
    )
    assert 0 < constant < features and nan == 64 * constant and finite == of_constant == 0
    _, (weight, bias, beta, change) = evidence("bias_before")
    assert bias[-1] < 1e-12 < 1e-3 < min(weight[-1], beta[-1]) and change[-1] < 1e-10
    _, (inside, variance, mean, every, _) = evidence("three_paths")
    assert inside[0] < 1e-12 < 0.05 < min(variance[0], mean[0], every[0])


@jit_only
def test_training_or_eval(evidence):
    _, (apart, right, apart_eval, right_eval) = evidence("training_or_eval")
    assert apart[-1] > 0.1 > 1e-4 > apart_eval[-1]
    assert right[-1] < 50 < 90 < right_eval[-1]


def test_statistics(evidence):
    text, lines = evidence("batch_of_one")
    assert text.startswith("ShapeError: ") and "eval(): (1, 64)" in text
    assert [line[-1] for line in lines[2:]] == [1, 4]
    _, ((_, biased, unbiased), (normalised,), (running,)) = evidence("biased_or_unbiased")
    assert normalised == pytest.approx(biased, abs=2e-6) and running == unbiased != biased
    _, (training, evaluation) = evidence("freezing")
    assert training[-1] > 0.01 and evaluation[-1] == 0
    _, rows = evidence("from_layer_to_layer")
    for k, (factor, before, after, loss, gradient) in enumerate(rows):
        assert factor == 10**k and after == 1 and loss == rows[0][3]
        assert before == pytest.approx(rows[0][1] * factor, rel=0.01)
        assert gradient == pytest.approx(rows[0][-1] / factor, rel=0.01)


@jit_only
def test_momentum_conventions(evidence):
    _, ((tenth, *_, off), (hundredth, keras, off_keras), (*_, off_copied), (off_none,)) = evidence(
        "momentum_conventions"
    )
    assert (tenth, hundredth, keras) == (0.1, 0.01, 0.99)
    assert off_none < off_keras < off < off_copied / 4


@jit_only
def test_hidden_or_output(evidence):
    _, (_, nowhere, hidden, output, both) = evidence("hidden_or_output")
    assert hidden[0] > nowhere[0] + 2 and abs(hidden[0] - both[0]) < 2
    assert hidden[1] < both[1] < output[1]


# --- the page ----------------------------------------------------------------------------------


def run(page, monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["batchnorm_questions.py", *options])
    return page.main()


def test_every_function_of_the_sections_is_on_the_page_and_asks(page):
    names = ("gamma_beta", "batch_statistics")
    helpers = ("batch", "normalised")
    functions = [
        f
        for name in names
        for f in vars(getattr(page, name)).values()
        if inspect.isfunction(f) and f.__module__ == f"questions.{name}"
    ]
    assert [f for f in functions if f.__name__ not in helpers] == page.QUESTIONS
    for question in page.QUESTIONS:
        asked, empty, *answer = inspect.getdoc(question).splitlines()
        assert "?" in asked and not empty and len(answer) >= 2, question


def test_list_one_and_code(page, monkeypatch, capsys):
    assert run(page, monkeypatch, "--list") == 0
    listed = capsys.readouterr().out.splitlines()
    assert [int(line[:2]) for line in listed] == list(range(1, len(page.QUESTIONS) + 1))
    assert run(page, monkeypatch, "2") == 0
    plain = capsys.readouterr().out
    assert plain.startswith("2. Are gamma and beta hyperparameters?\n\nNo, they are parameters")
    assert "\n    learnt:   weight, bias\n" in plain and "bn = nn" not in plain
    assert run(page, monkeypatch, "--code", "2") == 0
    assert "\n    bn = nn.BatchNorm1d(32)\n" in "\n" + capsys.readouterr().out


@pytest.mark.parametrize("number", ["0", "99", "one"])
def test_a_number_that_is_none_is_named(page, number, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(page, monkeypatch, number)
    assert stopped.value.code == 2
    assert number in capsys.readouterr().err


# --- the experiment ----------------------------------------------------------------------------


@jit_only
def test_placement_quick(page, monkeypatch, capsys, tmp_path):
    placement = importlib.import_module("batchnorm_placement")
    path = tmp_path / "a.png"
    monkeypatch.setattr(sys, "argv", ["batchnorm_placement.py", "--quick", "--plot", str(path)])
    assert placement.main() == 0
    text = capsys.readouterr().out
    rows = {name: numbers(text.split(f"\n{name} ")[1].splitlines()[0]) for name in ROWS}
    best = max(max(row[:3]) for row in rows.values())
    for *means, good, of in rows.values():
        assert len(means) == of == 3
        assert good == sum(mean >= best - 1 for mean in means)
    assert max(rows["nowhere"][:3]) < max(rows["hidden layers"][:3])
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


ROWS = ["nowhere", "hidden layers", "output layer", "hidden and output"]


def test_placements_are_where_they_are_said_to_be(page):
    placement = importlib.import_module("batchnorm_placement")
    assert list(placement.PLACEMENTS) == ROWS
    for hidden, output in placement.PLACEMENTS.values():
        kinds = [type(layer).__name__ for layer in placement.build(hidden, output).children()]
        inner = ["Linear", "BatchNorm1d", "ReLU"] if hidden else ["Linear", "ReLU"]
        assert kinds == [*inner, *inner, "Linear", *(["BatchNorm1d"] if output else [])]
