"""Trained models at work: predictions of many files, evaluation on labelled ones, and files for other programs."""
