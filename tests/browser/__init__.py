"""Tests in a browser. The folder is a package, so that its fixtures can have the scope `package`."""
