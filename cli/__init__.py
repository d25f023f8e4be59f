"""What a command asks for: flags, preflight, --rank, --vote, --check, the comparison of all personas."""
