"""The graph of a derivation, laid out and drawn as SVG.

In: a Derivation. Out: a Graph, its layout, a drawing.
Read graph.py, layout.py, svg.py (style.py: its CSS).
"""
