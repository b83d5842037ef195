"""Results of several runs: tables, comparisons, benchmarks."""
