"""One numbered file a migration; a released one is never edited."""
