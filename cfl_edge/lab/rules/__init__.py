"""The rules that CFL is compared with."""
