"""Show what was found, and compute none of it.

``evidence.document`` makes the one document that all else reads by key: ``console.print_*`` says it, ``plots.png``
draws a figure of it, ``page.write_report`` makes the page, ``files.write_results`` writes all files. ``words`` holds
the sentences and the number formats.
"""
