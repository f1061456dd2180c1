"""Tests in a browser. A package, so that its fixtures can have the scope of one."""
