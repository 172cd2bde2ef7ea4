"""What the tables of answers (cases_lab01.py and the others) share."""


class Make:
    """A Keras model that is made only when it is needed: importing Keras takes seconds."""

    def __init__(self, make, **options):
        self.make, self.options = make, options

    def __call__(self):
        return self.make(**self.options)
