"""The studio: a page on which one composes, fills bars anew and listens."""
