"""Files to facts and verdicts."""
