"""What the viewer is made of: the people it shows, what draws them, pages in browsers, and what those ask for."""
