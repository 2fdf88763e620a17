"""What a person hears and sees of a piece: audio and piano-roll pictures."""
