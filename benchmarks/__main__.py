"""All benchmarks, one after the other."""

from benchmarks import duplicates, generate, index, pianoroll, tokenize, train

for benchmark in (index, duplicates, tokenize, pianoroll, train, generate):
    benchmark.main()
