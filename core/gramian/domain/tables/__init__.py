"""Files of rows, read in chunks: CSV, Parquet, and the wire's DataFrame as JSON."""
