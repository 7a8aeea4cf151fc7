"""Parts that behave like the real ones without network, disk or card. They ship with the workers."""
