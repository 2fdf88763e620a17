"""Pieces, splits and duplicates in DuckDB."""
