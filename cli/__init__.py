"""The command line: flags, the jobs that they ask for, --check, --rank, and the files that a user brings."""
