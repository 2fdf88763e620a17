"""Everything that Dagster sees."""
