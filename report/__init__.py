"""Show the results document: the console, the plots, the page and the files; nothing is computed here.

from report import console, files
console.print_header(...)                        a run says what it does
files.write_results(document, results_dir)       JSON, plots and page
console.print_final(document)                    what was found
"""
