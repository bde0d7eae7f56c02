"""
The report of a replica as one HTML file: what is in the warehouse, and how its runs went.

The warehouse counts, by one statement; people's data is not read. Vega-Lite draws the charts, and
Jinja2 writes the page, which needs no network and contains no script.
"""
