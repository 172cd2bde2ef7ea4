"""What the cells of the labs import: data, plots, diagnostics, statistics, recorded studies, claims and exercises.

Importing this package costs next to nothing: each module is imported where a lab first needs it.
"""

__version__ = "0.1.0"
