"""What the benchmarks write: a page and plots each, and what machine they were made on."""
