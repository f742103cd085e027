"""Packages and the names they are installed under; everything else is in pyproject.toml.

`apps/` and `models/` are good folder names and bad top-level import names, so they are installed as
`mlx_suite_apps` and `mlx_suite_models`.
"""

from setuptools import find_packages, setup

RENAMED = {"mlx_suite_apps": "apps", "mlx_suite_models": "models"}

packages = find_packages(include=["mlx_suite", "mlx_suite.*"])
for name, folder in RENAMED.items():
    packages += [name, *(f"{name}.{inner}" for inner in find_packages(folder))]

setup(
    packages=packages,
    package_dir=RENAMED,
    # Checkpoints, chat templates and web pages are data of the packages they lie in.
    package_data={name: ["*", "**/*"] for name in ("mlx_suite", *RENAMED)},
    exclude_package_data={"": ["*.pyc", "__pycache__/*", "**/__pycache__/*"]},
)
