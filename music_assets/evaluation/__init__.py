"""How good a model is: likelihood, features, genre consistency, copying, and the report that gathers them."""
