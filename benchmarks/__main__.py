"""All benchmarks, one after the other."""

from benchmarks import damage, duplicates, generate, index, pianoroll, tokenize, train

for benchmark in (index, damage, duplicates, tokenize, pianoroll, train, generate):
    benchmark.main()
