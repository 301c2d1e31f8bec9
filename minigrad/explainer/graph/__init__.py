"""The graph of a derivation, laid out and drawn as SVG.

In: a Derivation. Out: a Graph, its text for Graphviz, its layout, a drawing.
Read graph.py, dot.py, layout.py, svg.py (style.py: its CSS).
"""
