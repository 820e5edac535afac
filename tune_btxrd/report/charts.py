"""Charts of a report: the one list of what is drawn on the page (`charts.js`) and for papers (`figures.py`).

Both forms take their numbers from the same places: `search/rungs.py`, `report/cutoffs.py`, `slots.py`, `importance.py`,
`landscape.py` and `search/selection/`. On the page the figure for papers stands until the script draws the other one.
"""

CHARTS = (
    "trainings",  # the final job, epoch by epoch
    "confirmation",  # search score and repeats
    "recommendation",  # observed, completed and modelled value of the best trials
    "history",  # every trial by number, and the best so far
    "curves",  # every trial by epoch, the rungs, and where trials were stopped
    "pareto",  # monitored value against recall of the positive class
    "importance",  # of each hyperparameter, with its interval
    "slices",  # one hyperparameter at a time
    "landscape",  # two at a time
    "parallel",  # all together
    "sizes",  # score and cost of an epoch by image size
    "slots",  # what every slot did, by the clock
)

MOST_ROWS = 12  # trials in the picture of the recommendation
