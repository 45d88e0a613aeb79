"""How good is it? Metrics, the judges they rest on, the studies behind `minidiff reproduce`, and the files they write."""
