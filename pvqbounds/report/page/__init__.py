"""One self-contained HTML page about a whole network.

``figures`` says what is shown as plain data, ``scales`` where it stands, the templates draw it, ``document``
puts them together.
"""
