"""Make the graph of a derivation, lay it out, and draw it.

In: a Derivation. Out: a Graph, its text for Graphviz, its layout, and SVG.
Read graph.py, style.py (colours and CSS), dot.py, layout.py, svg.py.
"""
