"""Answer questions that learners ask about BatchNorm, each with evidence.

    pip install -e '.[examples]'
    python examples/batchnorm_questions.py           # all
    python examples/batchnorm_questions.py 3 7       # some
    python examples/batchnorm_questions.py --list    # the questions only
    python examples/batchnorm_questions.py --code 1  # with the code that prints the figures

For each feature of a batch of n examples, where gamma and beta are learnt:

    x_hat = (x - mean) / sqrt(var + eps)        y = gamma * x_hat + beta

Each question is a function in examples/questions.
"""

import argparse
import contextlib
import inspect
import io
import sys
import textwrap

from questions import batch_statistics, gamma_beta

QUESTIONS = [
    gamma_beta.by_hand,
    gamma_beta.hyperparameters,
    gamma_beta.initial_values,
    gamma_beta.constructor,
    gamma_beta.one_for_each_layer,
    gamma_beta.derivatives,
    gamma_beta.sum_over_the_batch,
    gamma_beta.updates,
    batch_statistics.what_eps_is_for,
    batch_statistics.bias_before,
    batch_statistics.three_paths,
    batch_statistics.training_or_eval,
    batch_statistics.batch_of_one,
    batch_statistics.biased_or_unbiased,
    batch_statistics.momentum_conventions,
    batch_statistics.freezing,
    batch_statistics.from_layer_to_layer,
    batch_statistics.hidden_or_output,
]


def show(i, code):
    """Print question i (from 1), its answer and, indented, what its function prints."""
    question, answer = inspect.getdoc(QUESTIONS[i - 1]).split("\n\n", 1)
    print(f"{i}. {question}\n\n{answer}\n")
    if code:
        print(inspect.getsource(QUESTIONS[i - 1]).split('"""\n')[1])  # the code after the docstring
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        QUESTIONS[i - 1]()
    print(textwrap.indent(printed.getvalue(), "    "))


def main():
    """Answer all questions, or those given by number."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    numbers = range(1, len(QUESTIONS) + 1)
    parser.add_argument("numbers", nargs="*", type=int, help="which ones; all by default")
    parser.add_argument("--list", action="store_true", help="print the questions only")
    parser.add_argument("--code", action="store_true", help="print the code as well")
    args = parser.parse_args()
    for i in args.numbers:
        if i not in numbers:
            parser.error(f"there is no question {i}; --list shows 1 to {len(QUESTIONS)}")
    for i in args.numbers or numbers:
        if args.list:
            print(f"{i:2}. {inspect.getdoc(QUESTIONS[i - 1]).splitlines()[0]}")
        else:
            show(i, args.code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
