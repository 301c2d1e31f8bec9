"""Show a derivation as text, Markdown, a notebook cell or a page.

In: a Derivation and its analysis. Out: text, MathML, LaTeX and HTML.
Read notation.py (latex.py, mathml.py), tables.py, then text.py, markdown.py, notebook.py, page.py.
"""
