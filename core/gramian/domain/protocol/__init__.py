"""What nodes of a federation say to each other: rosters, heads, blobs, redemptions."""
