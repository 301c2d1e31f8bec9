"""README's Python runs as it stands, block after block, and quotes the sources as they are."""

import re
from pathlib import Path

import minigrad as mg
from minigrad import ops

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
# A primitive can be declared once, so that is a quotation.
QUOTED = [block for block in BLOCKS if "lambda g" in block]
RUN = [block for block in BLOCKS if block not in QUOTED]


def without_space(code):
    return re.sub(r"\s+", "", code).replace(",)", ")")


def test_blocks_run_one_after_the_other(capsys):
    mg.manual_seed(0)
    names = {}
    try:
        for block in RUN:
            exec(compile(block, "README.md", "exec"), names)
    finally:
        ops.TABLE.pop("swish", None)
    printed = capsys.readouterr().out
    eager, compiled = re.findall(r"^loss (\d\.\d{4})", printed, re.M)
    assert float(compiled) < float(eager) < 0.2  # XOR is learnt, and the compiled steps go on
    logged = re.findall(r"^step \d+: loss (\d\.\d{4})", printed, re.M)
    assert len(logged) == 2 and float(logged[-1]) < float(compiled)  # so does the compiled model
    assert "cross_entropy" in names["step"].source
    assert "sigmoid(z)" in printed and mg.gradcheck(names["swish"], [names["z"].double()])
    assert RUN


def test_quotations_stand_in_the_sources():
    sources = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "minigrad").rglob("*.py"))
    for block in QUOTED:
        assert without_space(block) in without_space(sources), block
    assert QUOTED


def test_files_that_are_named_are_there():
    words = re.findall(r"(?:examples|bench|minigrad|ops|kernels)/[\w/]+\.(?:py|png)", README)
    for word in words:
        found = [ROOT / word, ROOT / "minigrad" / word]
        assert any(path.exists() for path in found), word
    assert "examples/digits.py" in words
