"""Files: model containers, atomic writes, and other libraries' networks."""
