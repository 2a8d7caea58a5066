"""The paper's experiments, one command each; see docs/evaluation.md."""
