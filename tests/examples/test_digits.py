"""Users' commands with examples/digits.py work; where it trains, it has its own process.

What needs no training runs in this process, which saves an import of scikit-learn each time.
"""

import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from minigrad import optim

for needed in ("sklearn", "matplotlib", "tqdm"):
    pytest.importorskip(needed)

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "digits.py"
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(ROOT),  # the package is found from any directory, installed or not
    "PYTHONUNBUFFERED": "",  # as by default, else a missing flush goes unseen
}
jit_only = pytest.mark.skipif(
    bool(numba.config.DISABLE_JIT), reason="coverage cannot see into a process: nothing is won"
)
LAST_LINE = re.compile(r"test accuracy (\d{1,3}\.\d) %")
EPOCH_LINE = re.compile(r"epoch (\d+)/(\d+)  loss \d+\.\d{4}  train \d+\.\d %  test (\d+\.\d) %")


def run(folder, *options):
    """Run the example in `folder`; return the finished process."""
    command = [sys.executable, str(SCRIPT), *options]
    return subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )


def accuracy_in(line):
    """Return the figure in the last line, which must look exactly as documented."""
    match = LAST_LINE.fullmatch(line)
    assert match, line
    return float(match[1])


def assert_is_png(path):
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert data.endswith(b"IEND\xaeB`\x82"), "cut short"


def assert_epochs(lines, epochs):
    matches = [EPOCH_LINE.fullmatch(line) for line in lines]
    assert all(matches), lines
    assert [(int(m[1]), int(m[2])) for m in matches] == [(i + 1, epochs) for i in range(epochs)]


@jit_only
def test_two_epochs(tmp_path):
    done = run(tmp_path, "--epochs", "2")
    assert done.returncode == 0, done.stderr
    *epochs, last = done.stdout.splitlines()
    assert_epochs(epochs, 2)
    assert accuracy_in(last) >= 90
    assert last.split()[2] == EPOCH_LINE.fullmatch(epochs[-1])[3]
    assert done.stderr == ""  # no bar, no warning: this is no terminal
    assert_is_png(tmp_path / "digits.png")
    assert [path.name for path in tmp_path.iterdir()] == ["digits.png"]


@pytest.mark.exhaustive
@jit_only
def test_the_seed_decides(tmp_path):
    first, again = (run(tmp_path, "--epochs", "1").stdout for _ in range(2))
    assert first and again == first
    assert run(tmp_path, "--epochs", "1", "--seed", "1").stdout != first


@pytest.mark.exhaustive
@jit_only
def test_the_defaults_reach_97_percent(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    *epochs, last = done.stdout.splitlines()
    assert_epochs(epochs, 20)
    assert accuracy_in(last) >= 97


@pytest.mark.exhaustive
@jit_only
def test_without_batchnorm_into_a_file_of_ones_own(tmp_path):
    (tmp_path / "plots").mkdir()
    done = run(tmp_path, "--epochs", "5", "--no-batchnorm", "--plot", "plots/a.curve")
    assert done.returncode == 0, done.stderr
    *epochs, last = done.stdout.splitlines()
    assert_epochs(epochs, 5)
    assert accuracy_in(last) >= 80
    assert_is_png(tmp_path / "plots" / "a.curve")
    assert not (tmp_path / "digits.png").exists()


@pytest.mark.exhaustive
@jit_only
@pytest.mark.parametrize("options", [["2"], ["1437"], ["1", "--no-batchnorm"]])
def test_the_extreme_batch_sizes_work(tmp_path, options):
    done = run(tmp_path, "--epochs", "1", "--batch-size", *options)
    assert done.returncode == 0, done.stderr
    accuracy_in(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def example():
    """Return the script's functions and constants."""
    return runpy.run_path(str(SCRIPT))


@pytest.mark.parametrize("batchnorm", [False, True])
def test_batchnorm_is_in_the_network_or_not(example, batchnorm):
    kinds = [type(layer).__name__ for layer in example["build"](batchnorm).children()]
    hidden = ["Linear", "BatchNorm1d", "ReLU"] if batchnorm else ["Linear", "ReLU"]
    assert kinds == [*hidden, *hidden, "Linear"]


def test_batchnorm_learns_in_training_and_not_in_testing(example):
    model = example["build"](True)
    x, y = np.eye(64, dtype=np.float32), np.arange(64) % 10
    opt = optim.SGD(model.parameters(), lr=0.1)

    def mean():
        return np.array(model.state_dict()["1.running_mean"])

    assert not mean().any()
    assert example["accuracy"](model, x[:1], y[:1]) in (0, 100)  # one image: no statistics
    assert not mean().any()
    assert example["train_epoch"](model, opt, [(x, y)], "title") > 0
    assert mean().any()


def test_the_curves_are_what_was_printed(example, tmp_path, monkeypatch, capsys):
    plotted = []
    monkeypatch.setitem(example["main"].__globals__, "plot", lambda *given: plotted.append(given))
    options = ["--epochs", "2", "--batch-size", "500", "--plot", str(tmp_path / "a.png")]
    monkeypatch.setattr(sys, "argv", ["digits.py", *options])
    assert example["main"]() == 0
    *lines, _ = capsys.readouterr().out.splitlines()
    ((history, path),) = plotted
    assert path == tmp_path / "a.png"
    assert lines == [
        f"epoch {i}/2  loss {loss:.4f}  train {train:.1f} %  test {test:.1f} %"
        for i, (loss, train, test) in enumerate(history, 1)
    ]


def test_the_split_is_stratified_and_scaled(example):
    x_train, x_test, y_train, y_test = example["load"](0)
    assert x_train.shape == (1437, 64) and x_test.shape == (360, 64)
    assert x_train.dtype == x_test.dtype == "float32" and y_train.dtype == "int64"
    assert x_train.min() == 0 and x_train.max() == 1
    for digit in range(10):
        whole = (y_train == digit).sum() + (y_test == digit).sum()
        assert abs((y_test == digit).sum() - whole * 360 / 1797) < 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--epochs", "0"], ["--epochs", "expected 1 to", "got 0"]),
        (["--epochs", "two"], ["--epochs", "invalid int value: 'two'"]),
        (["--batch-size", "0"], ["--batch-size", "got 0"]),
        (["--batch-size", "1"], ["--batch-size", "BatchNorm", "at least 2", "--no-batchnorm"]),
        (["--batch-size", "0", "--no-batchnorm"], ["--batch-size", "got 0"]),
        (["--batch-size", "1438"], ["--batch-size", "1 to 1437", "got 1438"]),
        (["--lr", "0"], ["--lr", "got 0"]),
        (["--lr", "-0.1"], ["--lr", "got -0.1"]),
        (["--lr", "nan"], ["--lr", "got nan"]),
        (["--lr", "inf"], ["--lr", "got inf"]),
        (["--lr", "fast"], ["--lr", "invalid float value: 'fast'"]),
        (["--seed", "-1"], ["--seed", "got -1"]),
        (["--seed", str(2**32)], ["--seed", "got 4294967296"]),
        (["--plot", "missing/a.png"], ["--plot", "missing/a.png"]),
        (["--plot", "."], ["--plot", "'.'"]),
        (["--plot", ""], ["--plot", "''"]),
        (["--momentum", "0.5"], ["--momentum"]),
    ],
)
def test_a_bad_option_is_named_before_anything_is_done(
    example, options, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["digits.py", *options])
    monkeypatch.setitem(example["main"].__globals__, "load", None)  # calling it would be an error
    with pytest.raises(SystemExit) as stopped:
        example["main"]()
    assert stopped.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    last = said.err.splitlines()[-1]
    assert all(word in last for word in words), last
    assert list(tmp_path.iterdir()) == []


@jit_only
def test_a_bad_option_ends_the_process_with_status_2(tmp_path):
    done = run(tmp_path, "--plot", "missing/a.png")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "argument --plot: cannot write 'missing/a.png'" in done.stderr


def test_help_tells_every_option_and_its_default(example, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["digits.py", "--help"])
    with pytest.raises(SystemExit) as stopped:
        example["main"]()
    assert stopped.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    for option in ("--epochs", "--batch-size", "--lr", "--seed", "--no-batchnorm", "--plot"):
        assert re.search(rf"{option} [^(]*\(default: ", said), option


@jit_only
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_keeps_what_was_learnt(tmp_path):
    # A child takes over an ignored SIGINT, as in a background job, and Python then raises no
    # KeyboardInterrupt. A handled one is reset to its default. 100 epochs fit into a pipe's buffer:
    # were the lines not flushed, the first would come when all is over.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), "--epochs", "100"],
            cwd=tmp_path,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert EPOCH_LINE.fullmatch(first.rstrip("\n")), (first, err)
    assert process.returncode == 130, err
    assert accuracy_in(out.splitlines()[-1]) >= 80
    assert err == "interrupted: keeping what was learnt so far\n"
    assert_is_png(tmp_path / "digits.png")
