"""From pixels in memory to an accepted callback, beside the making of the next job."""
