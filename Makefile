# make lab    sets everything up and opens the course
# make test   runs everything that CI runs
# make lint   checks style and types (ruff, mypy)
# make mutate plants errors in the package, one at a time, and says which no test notices
# make demo   trains for three minutes and draws samples
# make book   builds the web book, which needs no network, in build/book
# make slides builds a deck of slides for each chapter in build/slides
# make kit    puts the course, its wheels and the web book into build/kit, for a room without a network
# make colab  runs every student's and deeper notebook whole, with the versions that Colab has
# make bench  compares speed and quality with three libraries
# Another Python: make lab PYTHON=python3.12

PYTHON ?= python3
PY := $(if $(filter Windows_NT,$(OS)),.venv/Scripts/python.exe,.venv/bin/python)

# An address instead of a file: it is what gets printed where no browser opens.
LAB_FLAGS := --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb --ServerApp.ip=127.0.0.1 --log-level=ERROR
ifeq ($(shell id -u),0)
LAB_FLAGS += --allow-root
endif
ifeq ($(shell uname)$(DISPLAY)$(WAYLAND_DISPLAY),Linux)
LAB_FLAGS += --no-browser
endif

LINT := $(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy

# Two kernels with one thread each fill two cores; a kernel with torch takes 0.6 GB.
TWO := OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile
NBVAL := --nbval --nbval-current-env --nbval-cell-timeout=300 --nbval-sanitize-with tests/course/nbval_sanitize.cfg

.PHONY: help setup lab test demo bench book slides kit colab lint mutate notebooks clean

help:
	@sed -n 's/^# make/make/p' Makefile

setup:
	@$(PYTHON) tools/bootstrap.py

lab: setup
	@$(PY) -m jupyterlab $(LAB_FLAGS)

# Every step runs, so that one look shows all that is wrong; any failure fails the whole.
test: setup
	@failed=; \
	$(LINT) || failed="$$failed lint"; \
	$(PY) tools/build_notebooks.py --check || failed="$$failed sources"; \
	$(TWO) tests || failed="$$failed tests"; \
	$(TWO) $(NBVAL) notebooks/*.ipynb notebooks/deeper/*.ipynb || failed="$$failed notebooks"; \
	$(PY) tools/colab.py --quick || failed="$$failed colab"; \
	if [ -n "$$failed" ]; then echo "make test failed in:$$failed"; exit 1; fi

demo: setup
	@rm -rf runs/demo
	@$(PY) -m minidiff train --data fashion --seconds 180 --out runs/demo
	@$(PY) -m minidiff sample runs/demo --n 64 --out runs/demo/samples.png
	@echo "The picture is in $(CURDIR)/runs/demo/samples.png"

# The libraries to compare with come on top of the environment, and only here.
bench: setup
	@$(PY) -m pip install --quiet --disable-pip-version-check -e ".[bench]" -c constraints.txt
	@$(PY) benchmarks/bench.py

book: setup
	@$(PY) tools/make_book.py

slides: setup
	@$(PY) tools/make_slides.py

kit: book
	@$(PY) tools/make_kit.py

colab: setup
	@$(PY) tools/colab.py

lint: setup
	@$(LINT)

mutate: setup
	@$(PY) tools/mutate.py

notebooks: setup
	@$(PY) tools/build_notebooks.py
	@$(PY) tools/list_checks.py

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache build dist
