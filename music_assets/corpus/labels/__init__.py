"""Where genre labels come from."""
