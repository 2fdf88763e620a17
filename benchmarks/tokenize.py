"""Encoding and decoding REMI, against miditok with the same vocabulary; one core each."""

import warnings

from benchmarks.harness import compare, midi_files, options, show
from music_assets.corpus.reading import BadMidi, load_score
from music_assets.tokens.remi import decode, encode
from music_assets.tokens.vocabulary import REMI_CONFIG


def main() -> None:
    from miditok import REMI, TokenizerConfig

    warnings.simplefilter("ignore")
    chosen = options(__doc__)
    settings = {**REMI_CONFIG}
    settings["beat_res"] = {tuple(span): resolution for span, resolution in REMI_CONFIG["beat_res"]}
    settings["time_signature_range"] = {int(d): n for d, n in REMI_CONFIG["time_signature_range"].items()}
    miditok = REMI(TokenizerConfig(**settings))
    scores = []
    with midi_files(chosen.corpus, chosen.files) as files:
        for file in files:
            try:
                scores.append(load_score(file))
            except BadMidi:
                continue
    documents = [encode(score) for score in scores]
    theirs = [document.tolist() for document in documents]
    tokens = sum(map(len, documents))
    results = [
        compare(
            "encode_tokens_per_second",
            "tokens/s",
            tokens,
            lambda: [encode(score) for score in scores],
            "miditok",
            lambda: [miditok.encode(score.copy()) for score in scores],
        ),
        compare(
            "decode_tokens_per_second",
            "tokens/s",
            tokens,
            lambda: [decode(document) for document in documents],
            "miditok",
            lambda: [miditok.decode(document) for document in theirs],
        ),
    ]
    show(results, chosen.json)


if __name__ == "__main__":
    main()
