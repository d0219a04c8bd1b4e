"""The report's pictures, each a function from numbers to inline SVG."""
