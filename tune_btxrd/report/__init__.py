"""What a search found, for a person: one HTML page, figures and tables. Neither torch nor Ray is imported here.

gather.py      the results folder -> Material, all that page, figures and tables are made of
cutoffs.py     who was stopped at which cutoff   slots.py       where the time went
importance.py  which hyperparameter matters    landscape.py   val loss between the trials
words.py       what it says in sentences       tables.py      CSV, LaTeX, and the page's own
figures.py     PNG and SVG for papers          page.py        report.html
"""
