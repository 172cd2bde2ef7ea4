"""What the labs share and never what they teach: data, plots, claims, exercises and the `labs` command.

Importing this package costs next to nothing: each module is imported where a lab first needs it.
"""

__version__ = "0.1.0"
