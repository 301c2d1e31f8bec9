"""The CSS and colours of drawings, light and dark, for files, pages and notebooks."""

LIGHT = {
    "ground": "#ffffff",
    "ink": "#1b1f24",
    "faint": "#59636e",
    "line": "#8c959f",
    "frame": "#f4f6f8",
    "border": "#d0d7de",
    "parameter": "#dcebfb",
    "input": "#dcf3e2",
    "constant": "#ffffff",
    "record": "#ffffff",
    "module": "#ebe7f7",
}
DARK = {
    "ground": "#12161c",
    "ink": "#e6edf3",
    "faint": "#9aa4af",
    "line": "#6e7681",
    "frame": "#1a2029",
    "border": "#323b46",
    "parameter": "#143353",
    "input": "#14402a",
    "constant": "#12161c",
    "record": "#1f2630",
    "module": "#322a50",
}
_RULES = """\
{at} text {{ font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas,
  "DejaVu Sans Mono", monospace; fill: {ink}; text-anchor: middle }}
{at} .small {{ font-size: 10px; fill: {faint} }}
{at} .title {{ text-anchor: start; font-weight: 600; fill: {faint};
  paint-order: stroke; stroke: {frame}; stroke-width: 4px }}
{at} .ground {{ fill: {ground} }}
{at} .frame {{ fill: {frame}; stroke: {border} }}
{at} .box {{ stroke: {line}; stroke-width: 1.25px; fill: {record} }}
{at} .parameter .box {{ fill: {parameter} }}
{at} .input .box {{ fill: {input}; stroke-width: 2.5px }}
{at} .constant .box {{ fill: {constant}; stroke-dasharray: 4 3 }}
{at} .module .box {{ fill: {module} }}
{at} .edge {{ fill: none; stroke: {line}; stroke-width: 1.5px }}
{at} .dashed {{ stroke-dasharray: 4 3 }}
{at} .tip {{ fill: {line}; stroke: none }}
"""


# How notebooks and documentation mark their theme, which may differ from the system's.
LIGHT_HOSTS = '[data-jp-theme-light="true"], .vscode-light, html[theme="light"]'
DARK_HOSTS = '[data-jp-theme-light="false"], .vscode-dark, html[theme="dark"]'
AT = ".minigrad-graph"


def style() -> str:
    """Return CSS for drawings in the system's theme."""
    dark = _RULES.format(at=AT, **DARK)
    light = _RULES.format(at=AT, **LIGHT)
    return f"{light}@media (prefers-color-scheme: dark) {{\n{dark}}}\n"


def notebook_style() -> str:
    """Return CSS for drawings on a notebook's ground, in the notebook's theme if it marks one."""
    light = _RULES.format(at=f":is({LIGHT_HOSTS}) {AT}", **LIGHT)
    dark = _RULES.format(at=f":is({DARK_HOSTS}) {AT}", **DARK)
    return f"{style()}{light}{dark}.minigrad {AT} .ground {{ fill: none }}\n"
