"""`python -m minigrad` explains BatchNorm's gradient without a line of code."""

import argparse
import os
import sys
from collections.abc import Sequence

from .errors import FileError
from .explainer import ladder


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m minigrad", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    explain = commands.add_parser(
        "explain",
        help="print how autodiff derives BatchNorm's gradient, and write a page to step through",
    )
    explain.add_argument("what", choices=["batchnorm"], help="what to explain")
    explain.add_argument(
        "--page", default="batchnorm.html", help="where to write the page (default: %(default)s)"
    )
    explain.add_argument("--rows", type=int, default=64, help="batch size (default: %(default)s)")
    explain.add_argument("--channels", type=int, default=16, help="channels (default: %(default)s)")
    given = parser.parse_args(arguments)
    if given.rows < 2 or given.channels < 1:
        explain.error(
            f"BatchNorm needs at least 2 rows and 1 channel, got {given.rows} and {given.channels}"
        )
    batch = ladder.made_up(given.rows, given.channels)
    try:
        ladder.explained(batch).save_html(given.page)
    except FileError as error:
        explain.error(str(error))
    rungs = ladder.rungs(batch)
    report = ladder.report(rungs, ladder.measured(rungs, batch), batch)
    try:
        _print(f"{report}\n\nthe page to step through, in any browser: {given.page}")
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _print(text: str) -> None:
    """Print the text, with escapes for characters that the terminal's encoding lacks."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
