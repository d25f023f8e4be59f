"""Show the results document: the console, the plots, the page and the files; nothing is computed here."""
