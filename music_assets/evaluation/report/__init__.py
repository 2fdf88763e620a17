"""The page that says how good a model is: a file a section, and :mod:`page`, which lists and frames them."""
