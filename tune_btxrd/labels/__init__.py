"""Labels: the label store, the queue of what to label next, and the page to label on."""
