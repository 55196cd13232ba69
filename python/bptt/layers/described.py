def described(cls, base):
    return cls.__doc__
