"""Collections from elsewhere into the drop folder."""
