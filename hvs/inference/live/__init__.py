"""Parts of the viewer: the people it shows, what draws them, pages in browsers, and what those ask for."""
