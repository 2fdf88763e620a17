"""The tables and views of the index, each with what it means; DuckDB stores the sentences as comments."""

from music_assets.corpus.index.splits import EXCLUDED, SPLITS
from music_assets.corpus.labels.audit import TABLES as AUDIT_TABLES
from music_assets.corpus.reading.facts import ScoreFacts
from music_assets.corpus.reading.verdicts import OK

_SONG = {
    "artist": "Artist as the path gives it.",
    "title": "Title as the path gives it, without file suffix and version number.",
}
FACTS = {name: text for name, text in ScoreFacts.descriptions().items() if name != "piece_id"}

TABLES: dict[str, tuple[str, dict[str, str]]] = {
    "files": (
        "One row a MIDI file under the drop folder, usable or not.",
        {
            "path": "Path relative to the drop folder.",
            "collection": "First folder of the path.",
            "bytes": "Size of the file.",
            "md5": "md5 of the file; null if it could not be read to its end.",
            "verdict": "ok, or why the file is not used.",
            "detail": "The verdict in a sentence, and what was done to open the file.",
            **ScoreFacts.descriptions(),
            **_SONG,
        },
    ),
    "pieces": (
        "One row a piece: all usable files with the same music, shown by one of them.",
        {
            "piece_id": ScoreFacts.descriptions()["piece_id"],
            "path": "File that stands for the piece: with artist and title if possible, then first by path.",
            "collection": "Collection of that file.",
            "md5": "md5 of that file.",
            "copies": "Files with this music.",
            "duplicate_of": "The near-duplicate that stands for this piece; null for one that stands for itself.",
            "group_id": "Pieces of one song share it: same artist and title, same notes, or near-duplicates.",
            "split": f"{', '.join(SPLITS)}, or {EXCLUDED}: a piece of its group is held out further.",
            "genre": "Chosen genre or null: of all claims on near-duplicates of the piece the one with the highest "
            "confidence, then with most claims, then first by name.",
            "genre_source": "Source of the chosen genre.",
            "genre_confidence": "Confidence of the chosen genre, 0..1.",
            "published": "Whether the piece goes into the shards of its genre, if that has enough of them.",
            **_SONG,
            **FACTS,
        },
    ),
    "labels": (
        "Every claim that a file is of a genre.",
        {
            "path": "The file.",
            "genre": "Slug of the genre.",
            "source": "Who says so.",
            "confidence": "How sure the source is, 0..1.",
        },
    ),
    "genres": (
        "One row a genre that at least one piece has.",
        {
            "genre": "Slug: the partition key.",
            "name": "Name for people.",
            "pieces": "Published pieces.",
            **{split: f"Published pieces in {split}." for split in SPLITS},
            "duplicates": "Pieces left out because a near-duplicate stands for them.",
            "excluded": "Pieces left out because their song is held out.",
            "minimum_pieces": "Training pieces from which on the genre gets shards.",
            "enough": "Whether train has them.",
            "rows_hash": "Hash of the rows that are published for this genre; one that has not enough publishes none.",
        },
    ),
    **AUDIT_TABLES,
    "leaks": (
        "Held-out pieces that resemble a published training piece as near-duplicates do. The search compares all pairs "
        "where the grouping compares candidates; what a fingerprint cannot see, it cannot see either.",
        {
            "piece_id": "Published piece in valid or test.",
            "split": "Its split.",
            "train_piece_id": "The published training piece that resembles it most.",
            "similarity": "Estimated Jaccard similarity of their fingerprints.",
        },
    ),
    "build": (
        "One row: what this index was built from.",
        {
            "digest": "Hash of the files table, the label files, the taxonomy and the settings.",
            "minimum_pieces": "Training pieces that a genre was asked for; null for the number in the taxonomy.",
            "keep_near_duplicates": "Whether near-duplicates go into the shards too; null for no.",
            "notes": "Doubtful things in the label files, a sentence each.",
            "held_out_unknown": "Published pieces in valid and test that are too short to be compared with training.",
        },
    ),
}

VIEWS: dict[str, tuple[str, str]] = {
    "unlabelled": (
        "Pieces without a genre.",
        "select * exclude (genre, genre_source, genre_confidence) from pieces where genre is null",
    ),
    "genre_splits": (
        "Published pieces, their notes and hours, by genre and split.",
        """
        select genre, split, count(*) as pieces, sum(notes)::bigint as notes, sum(seconds) / 3600 as hours
        from pieces where published group by all order by all
        """,
    ),
    "dropped": (
        "Files that the index keeps out of the shards, and why. The few that are meant for them and cannot be encoded "
        "are told by `music-assets corpus why`.",
        f"""
        select files.path, case
            when files.verdict <> '{OK}' then files.verdict
            when files.path <> pieces.path then 'copy of ' || pieces.path
            when pieces.genre is null then 'no label'
            when pieces.split = '{EXCLUDED}' then 'song is held out'
            when not pieces.published then 'near-duplicate of ' || original.path
            else 'genre ' || pieces.genre || ' has too few pieces'
            end as reason
        from files left join pieces using (piece_id)
            left join pieces as original on original.piece_id = pieces.duplicate_of
            left join genres on genres.genre = pieces.genre
        where files.verdict <> '{OK}' or files.path <> pieces.path or not pieces.published or not genres.enough
        order by all
        """,
    ),
    "versions": (
        "Pieces of which the corpus has another version: those of one song, and which of them are near-duplicates.",
        """
        select group_id, artist, title, path, copies, split, genre, published,
            coalesce(duplicate_of, piece_id) as stands
        from pieces qualify count(*) over (partition by group_id) > 1
        order by group_id, stands, path
        """,
    ),
    "disagreements": (
        "Pieces whose sources name different genres, and what each says.",
        """
        select pieces.path, pieces.artist, pieces.title, pieces.genre as chosen,
            string_agg(distinct source || ': ' || labels.genre, ', ' order by source || ': ' || labels.genre) as claims
        from labels join files using (path) join pieces using (piece_id)
        group by all having count(distinct labels.genre) > 1 order by all
        """,
    ),
}
