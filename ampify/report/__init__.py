"""Reports: each module renders a `Report` in one format."""
