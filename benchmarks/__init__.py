"""How fast it is. `make bench`, on an otherwise idle machine, measures everything anew into benchmarks/results/."""
