"""What an audit looks at: thumbnails, candidates for duplicates, how one lies on another."""
