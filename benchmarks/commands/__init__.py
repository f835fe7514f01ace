"""Sub-commands of ``stemgmd`` that benchmarks offers."""
