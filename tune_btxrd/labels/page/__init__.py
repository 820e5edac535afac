"""Page: images of a label store in the browser, labelled by keys, on loopback alone."""
