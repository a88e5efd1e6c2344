"""What a run in the background survives, shown by doing it: scripts that anyone can run with a count.

  python -m proofs.kills --count 200       kill -9 at random moments; what is lost, and the loss curve afterwards
  python -m proofs.restarts --count 50     the app killed while runs go on; found again, never doubled
  python -m proofs.starts --count 50       simultaneous starts on one device; exactly one runs, in order

Each prints what it saw as JSON and exits with 1 if anything was violated. `--plant FAULT` breaks the code on purpose: then
it must exit with 1. Everything happens in a temporary folder, and no other process is touched.
"""
