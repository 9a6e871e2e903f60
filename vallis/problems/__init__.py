"""Problems: data to learn, and wrappers that make another problem harder or smaller."""
