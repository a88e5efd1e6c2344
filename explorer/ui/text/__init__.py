"""What pages say, in sentences and tables: words only, no widgets."""
