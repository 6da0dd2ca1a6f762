"""What trained networks say of whole volumes: classes, probabilities, and how sure they are."""
