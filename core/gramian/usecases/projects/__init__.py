"""Projects: their lifecycle and their local rows."""
