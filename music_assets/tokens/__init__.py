"""Scores as REMI token ids: vocabulary, encoder, decoder, grammar, transposition and shards."""
