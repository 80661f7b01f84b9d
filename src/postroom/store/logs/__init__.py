"""The logs: audit, rejections, releases, samples."""
