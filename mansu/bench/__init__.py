"""The benchmark's data: suites of real knowledge, fictitious authors, public benchmarks, and their scores."""
