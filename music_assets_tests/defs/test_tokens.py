"""What the token shards say of themselves in the UI."""

from pathlib import Path

import dagster as dg
import polars as pl

from music_assets.defs.due import shards_due
from music_assets.defs.partitions import GENRES, every_transposition
from music_assets.foundation.midi.reading import load_score
from music_assets.tokens.remi import encode_measured
from music_assets_tests.defs.conftest import Graph
from music_assets_tests.midi_files import make_tune


def published(graph: Graph, genre: str, count: int) -> list[Path]:
    """Tunes of a genre that the index has published, every other one for training; one note in each is doubled."""
    files = []
    for seed in range(count):
        score = make_tune(style="reel", seed=seed, bars=4 + seed)
        score.tracks[0].notes.append(score.tracks[0].notes[0])
        files.append(graph.paths.raw / f"{genre} {seed}.mid")
        score.dump_midi(str(files[-1]))
    rows = {
        "piece_id": [file.stem for file in files],
        "path": [file.name for file in files],
        "group_id": [file.stem for file in files],
        "split": [("train", "test")[seed % 2] for seed in range(count)],
    }
    graph.paths.genre_pieces(genre).parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows).write_parquet(graph.paths.genre_pieces(genre))
    graph.instance.add_dynamic_partitions(GENRES, [genre])
    return files


def rows(graph: Graph, name: str, partition: str) -> list[dict]:
    value = graph.latest("token_shards", partition).metadata[name]
    assert isinstance(value, dg.TableMetadataValue)
    return [dict(record.data) for record in value.records]


def test_statistics_are_a_genre_each_and_in_total_whatever_was_reused(graph: Graph) -> None:
    graph.paths.raw.mkdir(parents=True)
    files = {"jig": published(graph, "jig", 2), "reel": published(graph, "reel", 5)}
    encodings = {genre: [encode_measured(load_score(file)) for file in made] for genre, made in files.items()}
    encodings["all genres"] = [*encodings["jig"], *encodings["reel"]]
    for _ in range(2):
        graph.make("token_shards", partition_range=("jig|original", "reel|original"))
        found = {row["genre"]: row for row in rows(graph, "statistics", "reel|original")}
        lengths = {row["genre"]: row for row in rows(graph, "tokens_of_a_piece", "reel|original")}
        for genre, made in encodings.items():
            assert found[genre]["pieces"] == found[genre]["dropped"] == len(made)
            assert found[genre]["tokens"] == sum(len(encoding.ids) for encoding in made)
            assert found[genre]["notes"] == sum(encoding.notes for encoding in made)
            assert lengths[genre]["shortest"] == min(len(encoding.ids) for encoding in made)
            assert lengths[genre]["longest"] == max(len(encoding.ids) for encoding in made)
        assert len(found) == len(encodings)


def test_a_transposed_shard_alone_says_what_the_genre_holds_in_its_own_key(graph: Graph) -> None:
    graph.paths.raw.mkdir(parents=True)
    published(graph, "reel", 5)
    graph.make("token_shards", partition="reel|up2")
    (shard,) = rows(graph, "shards", "reel|up2")
    assert (shard["transposition"], shard["pieces"]) == ("up2", 3)
    assert [row["pieces"] for row in rows(graph, "statistics", "reel|up2")] == [5, 5]
    svg = str(graph.latest("token_shards", "reel|up2").metadata["pieces_by_tokens"].value)
    assert "image/svg" in svg


def test_pieces_whose_file_could_not_be_read_are_told_and_encoded_by_the_next_build(graph: Graph) -> None:
    graph.paths.raw.mkdir(parents=True)
    first, _ = published(graph, "reel", 2)
    away = first.rename(first.with_suffix(".away"))
    graph.make("token_shards", partition="reel|up1")
    assert rows(graph, "failed", "reel|up1") == [
        {"piece": "reel 0", "why": f"{first}: No such file or directory.", "tried_again": True}
    ]
    away.rename(first)
    every = every_transposition("reel")
    ends = (every["dagster/asset_partition_range_start"], every["dagster/asset_partition_range_end"])
    graph.make("token_shards", partition_range=ends)
    assert graph.latest("token_shards", "reel|up1").text("failed") == "none"
    assert shards_due(graph.instance, graph.paths) == []
    away = first.rename(away)
    graph.paths.shard("reel", "original").unlink()
    graph.make("token_shards", partition_range=ends)
    assert shards_due(graph.instance, graph.paths) == ["reel"]


def test_shards_of_other_pieces_than_the_published_are_due(graph: Graph) -> None:
    graph.paths.raw.mkdir(parents=True)
    published(graph, "reel", 4)
    assert shards_due(graph.instance, graph.paths) == ["reel"]
    graph.make("token_shards", partition_range=("reel|down5", "reel|up6"))
    assert shards_due(graph.instance, graph.paths) == []
    pieces = pl.read_parquet(graph.paths.genre_pieces("reel"))
    pieces.with_columns(split=pl.lit("train")).write_parquet(graph.paths.genre_pieces("reel"))
    assert shards_due(graph.instance, graph.paths) == ["reel"]
    pieces.write_parquet(graph.paths.genre_pieces("reel"))
    graph.paths.shard("reel", "up3").unlink()
    assert shards_due(graph.instance, graph.paths) == ["reel"]
