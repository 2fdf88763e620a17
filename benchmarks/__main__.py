"""All benchmarks, one after the other."""

from benchmarks import generate, index, tokenize, train

for benchmark in (index, tokenize, train, generate):
    benchmark.main()
