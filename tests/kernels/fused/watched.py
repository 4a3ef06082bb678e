class Watched:
    """A kernel that keeps what it was launched with last, by name."""

    def __init__(self, kernel):
        self.kernel = kernel

    def __getitem__(self, grid):
        def launched(*arguments, **options):
            self.named = dict(zip(self.kernel.arg_names, arguments, strict=False))
            self.kernel[grid](*arguments, **options)

        return launched
