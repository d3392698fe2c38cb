"""Docstrings of the public API follow numpydoc."""

import inspect

import pytest

validate = pytest.importorskip("numpydoc.validate").validate

IGNORED = {
    "GL01",  # summaries begin on the line of the opening quotes
    "GL02",  # and one-line docstrings end there
    "ES01",  # not every object needs an extended summary
    "SA01",  # or a See Also section
    "RT02",  # results are named
}
IGNORED_IN_METHODS = {"EX01"}  # the class has an example
IGNORED_IN_EXCEPTIONS = {"EX01"}


def public_methods(cls):
    """Yield the methods that a class defines or inherits from this package.

    Without those that override a method of skorch, where they are documented.
    """
    skorch_bases = [base for base in cls.__mro__ if base.__module__.startswith("skorch.")]
    for owner in cls.__mro__:
        if not owner.__module__.startswith("sktriplet."):
            continue
        for name, value in vars(owner).items():
            is_override = any(hasattr(base, name) for base in skorch_bases)
            if inspect.isfunction(value) and not name.startswith("_") and not is_override:
                yield f"{owner.__module__}.{owner.__qualname__}.{name}"


def errors_of(name, ignored):
    errors = validate(name)["errors"]
    return [f"{name}: {code}: {text}" for code, text in errors if code not in ignored]


def test_docstring(public_name):
    module, _, name = public_name.rpartition(".")
    obj = getattr(pytest.importorskip(module), name)
    if not obj.__module__.startswith("sktriplet."):
        pytest.skip("defined in another package")
    is_class = inspect.isclass(obj)
    is_exception = is_class and issubclass(obj, Exception)
    errors = errors_of(public_name, IGNORED | (IGNORED_IN_EXCEPTIONS if is_exception else set()))
    for method in public_methods(obj) if is_class else ():
        errors += errors_of(method, IGNORED | IGNORED_IN_METHODS)
    assert not errors, "\n".join(errors)
