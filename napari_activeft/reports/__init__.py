"""Pages for people: self-contained HTML that opens offline, nothing but the standard library."""
