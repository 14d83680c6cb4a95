"""Scripts for plain connections, run with TLS as secure.py says: what holds without it holds with it. Here are those whose way through Aegis
is another one with TLS; where TLS is over before anything of the kind is asked, the plain script has said it all."""
import importlib
import os
import sys
import unittest

ALL = ()


def take(main, module, names, without):
    """The classes of a script, without some of their tests, become classes of this one."""
    if hasattr(module, "enter"):
        module.enter()  # its namespace
    tests = {name: each for name, each in vars(module).items()
             if isinstance(each, type) and issubclass(each, unittest.TestCase) and each.__module__ == module.__name__}
    for name in names or tests:
        left_out = {test.partition(".")[2]: None for test in without if test.partition(".")[0] == name}
        missing = [test for test in left_out if not hasattr(tests[name], test)]
        if missing or hasattr(main, name):
            raise AssertionError(f"{name}: taken twice, or without {missing}")
        setattr(main, name, type(name, (tests[name],), {"__module__": module.__name__, **left_out}))


def run(mode="", version="", kernel="", without=(), **scripts):
    """mode: who speaks TLS, kernel: where the kernel makes the records (AEGIS_TEST_TLS and AEGIS_TEST_KERNEL_TLS in secure.py). scripts: the
    classes to run of each, or ALL; without: those of their tests that say nothing about TLS, or speak to Aegis before it ("Class.test")."""
    os.environ.update(AEGIS_TEST_TLS=mode, AEGIS_TEST_TLS_VERSION=version, AEGIS_TEST_KERNEL_TLS=kernel or os.environ.get("AEGIS_TEST_KERNEL_TLS", ""))
    import aegis
    from papers import need_tls
    try:
        need_tls()
    except unittest.SkipTest as why:
        print("skipped:", why)
        sys.exit(77)
    for name, classes in scripts.items():
        take(sys.modules["__main__"], importlib.import_module(name), classes, without)
    aegis.main()
