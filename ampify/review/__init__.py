"""What a report is narrowed to, and what is asked before a fix is written."""
