"""What is said of a run: the results document, console, words, plots, page, files. It computes nothing."""
