"""A dataset that others can host: shards, and the formats of other libraries."""
